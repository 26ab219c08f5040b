"""Whether a path lies on a network file system."""

from __future__ import annotations

from pathlib import Path

import psutil

from parrot.io.files import real_path

NETWORK = frozenset(
    {"nfs", "nfs4", "lustre", "gpfs", "beegfs", "ceph", "cifs", "smb3", "panfs", "glusterfs", "afs", "wekafs", "9p"}
)


def network_file_system(path: Path) -> str | None:
    """The type, such as nfs4, of the network file system that holds `path`; None for a local one."""
    mounts = {Path(each.mountpoint): each.fstype for each in psutil.disk_partitions(all=True)}
    whole = real_path(path)
    kind = next((mounts[place] for place in (whole, *whole.parents) if place in mounts), "")
    # Outside the kernel they are mounted as fuse.sshfs, fuse.juicefs and the like.
    return kind if kind in NETWORK or kind.startswith("fuse.") else None
