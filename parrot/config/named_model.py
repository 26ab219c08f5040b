"""A pretrained model that a run names: by catalogue entry, folder or hub repository."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from parrot.config.settings import BackboneFolder, Dataset, HubFolder
from parrot.errors import ConfigError

REPOSITORY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*")
DOWNLOADS = Path("data/hub")  # beside what the data pins hold


def named_model(name: str, revision: str | None, catalogue: Mapping[str, Dataset], where: str) -> BackboneFolder:
    """The model folder that `name` stands for: a backbone of the catalogue, a folder, or a hub repository.

    ConfigError beginning with `where` for a name that is none of them, or a `revision` of what has none.
    """
    entry = catalogue.get(name)
    if not isinstance(entry, BackboneFolder) and not os.path.isdir(name) and REPOSITORY.fullmatch(name):
        folder = name.replace("/", "--") + (f"@{revision}" if revision else "")
        source = HubFolder(repository=name, revision=revision or "main")
        return BackboneFolder(kind="backbone", path=str(DOWNLOADS / folder), licence="", source=source)
    if revision is not None:
        raise ConfigError(f"{where}: expected a hub repository beside a revision, and {name} is none")
    if isinstance(entry, BackboneFolder):
        return entry.model_copy(update={"licence": ""})
    if os.path.isdir(name):
        return BackboneFolder(kind="backbone", path=name, licence="", source="local")
    known = ", ".join(sorted(other for other, found in catalogue.items() if isinstance(found, BackboneFolder)))
    raise ConfigError(
        f"{where}: no folder {name}, no hub repository (owner/name), and no backbone of config/datasets.yaml, "
        f"which has {known}"
    )
