"""Weights that are published as a pickle alone, converted to safetensors by a process of its own.

Unpickling may run what a file says. The file is compared with its pinned digest before anything of it is parsed, torch
reads tensors and nothing else of it (``weights_only``), and the process has no token in its environment.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from parrot.errors import UserError, in_one_line
from parrot.io.digests import file_sha256
from parrot.io.files import atomic_path

SECRET = ("TOKEN", "KEY", "SECRET", "PASSWORD", "CREDENTIAL")  # parts of the names of variables that hold one


def convert(source: Path, target: Path, sha256: str) -> str:
    """Write the tensors of a pickle to the safetensors file `target`; return the SHA-256 of that.

    Names, shapes, dtypes and values stay; tensors that share memory are written once each.

    Raises:
        UserError: the file is not the pinned one, or holds anything but tensors.
    """
    if (found := file_sha256(source)) != sha256:
        raise UserError(f"{source}: sha256: expected {sha256}, found {found}; it is not opened")
    environment = {name: value for name, value in os.environ.items() if not any(part in name for part in SECRET)}
    with atomic_path(target) as partial:
        done = subprocess.run(
            [sys.executable, "-m", "parrot.fetch.pickled_weights", str(source), str(partial)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env=environment,
        )
        if done.returncode != 0:
            why = (done.stderr.strip().splitlines() or [f"the process ended with code {done.returncode}"])[-1]
            raise UserError(f"{source}: cannot be converted: {why.removeprefix('parrot: error: ')}")
    return file_sha256(target)


def main() -> None:
    """Convert the first argument, a pickle, to the second, a safetensors file."""
    import torch
    from safetensors.torch import save_file

    source, target = sys.argv[1:]
    with in_one_line():
        try:
            tensors = torch.load(source, map_location="cpu", weights_only=True)
        except Exception as error:  # of a damaged file, torch's own, zipfile's and pickle's
            raise UserError(
                f"expected tensors by name: {str(error).splitlines()[0] if str(error) else error!r}"
            ) from None
        odd = [
            str(name)
            for name, tensor in (tensors.items() if isinstance(tensors, dict) else [("the file", tensors)])
            if not (isinstance(name, str) and isinstance(tensor, torch.Tensor))
        ]
        if odd or not isinstance(tensors, dict):
            raise UserError(f"expected tensors by name, found {odd[0]} to be none")
        save_file({name: tensor.contiguous().clone() for name, tensor in tensors.items()}, target, {"format": "pt"})


if __name__ == "__main__":
    main()
