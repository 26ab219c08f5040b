"""Reading picture files; what cannot be read is one clear line."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from parrot.config import ConfigError


def read_picture(path: str | Path, where: str) -> Image.Image:
    """Decode a picture as RGB; ConfigError starting with `where` (file and sample) when it is missing or corrupt."""
    try:
        with Image.open(path) as picture:
            return picture.convert("RGB")
    except FileNotFoundError:
        raise ConfigError(f"{where}: image: {path} is missing") from None
    # Pillow's decoders raise many kinds of errors on corrupt input.
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError):
        raise ConfigError(f"{where}: image: {path} cannot be decoded") from None


def fault(path: str | Path) -> str | None:
    """What is wrong with a picture file, "is missing" or "cannot be decoded"; none when every pixel can be read."""
    try:
        with Image.open(path) as picture:
            picture.draft("RGB", (1, 1))  # a JPEG is then read whole but decoded at an eighth of its size
            picture.load()
    except FileNotFoundError:
        return "is missing"
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError):
        return "cannot be decoded"
    return None
