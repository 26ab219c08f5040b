"""The vision encoder's folder of a released checkpoint, which config.json only names."""

from __future__ import annotations

from pathlib import Path

from parrot.errors import ConfigError
from parrot.io.files import read_object, real_path
from parrot.model.weights import check_file


def find_vision_tower(folder: Path, named: str, given: str | Path | None) -> Path:
    """The vision encoder's folder: `named` (config.json's mm_vision_tower) in the checkpoint's folder, else beside
    it, else `given`. The network is never asked.

    Raises:
        ConfigError: it is in none of these places, or the encoder is not CLIP.
    """
    places = [folder / named, real_path(folder).parent / named, *([Path(given)] if given is not None else [])]
    for place in places:
        if (place / "config.json").is_file():
            break
    else:
        looked = ", ".join(map(str, places))
        raise ConfigError(
            f"{folder}: mm_vision_tower: no folder with a config.json at {looked}; name it by vision_tower"
        )
    check_file(place / "config.json")
    kind = read_object(place / "config.json").get("model_type")
    if kind not in ("clip", "clip_vision_model"):
        raise ConfigError(f"{place / 'config.json'}: model_type: expected clip or clip_vision_model, found {kind}")
    if not (place / "preprocessor_config.json").is_file():
        raise ConfigError(f"{place}: no preprocessor_config.json; expected how the encoder's pictures are prepared")
    return place
