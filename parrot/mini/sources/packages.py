"""The npm packages that the raw material comes from: pinned, checked, and read without unpacking."""

from __future__ import annotations

import json
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from parrot.errors import UserError
from parrot.io.digests import file_sha256


@dataclass(frozen=True)
class Package:
    """One npm package at one version; `sha256` is that of the tarball which `npm pack` writes."""

    name: str
    version: str
    sha256: str

    @property
    def file(self) -> str:
        """File name that `npm pack` gives the tarball."""
        return f"{self.name.lstrip('@').replace('/', '-')}-{self.version}.tgz"


GROUPS = Package("emoji-datasource", "16.0.0", "2006725061dc0098daa832d65f854a7bec0740af2eb47cb5b23d89f7e2c849f9")
NAMES = Package("cldr-annotations-full", "48.2.0", "28576e51225deb51e3ddd734b0f824a0079682cb5d8c27faa9f68149317a14d1")


def fetch(package: Package, folder: Path) -> Path:
    """Bring the tarball into `folder` unless it is there.

    Raises:
        UserError: npm fails or the bytes differ.
    """
    path = folder / package.file
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        command = ["npm", "pack", "--silent", f"{package.name}@{package.version}"]
        outcome = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        if outcome.returncode:
            last = (outcome.stderr.strip().splitlines() or ["no message"])[-1]
            raise UserError(f"{' '.join(command)}: expected the package's tarball, npm said: {last}")
    if (found := file_sha256(path)) != package.sha256:
        raise UserError(f"{path}: expected sha256 {package.sha256}, found {found}; delete it to fetch it again")
    return path


def read_json(tarball: Path, member: str) -> Any:
    """Parse the JSON file `member` of an npm tarball."""
    with tarfile.open(tarball) as archive:
        content = archive.extractfile(f"package/{member}")
        assert content is not None, f"{tarball} holds no file {member}"
        return json.load(content)
