"""The line that says where figures come from."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path

import torch
import transformers


def describe(on_gpu: bool) -> str:
    """Processor or GPU, and versions."""
    versions = f"torch {torch.__version__}, transformers {transformers.__version__}"
    if on_gpu and torch.cuda.is_available():
        return f"{torch.cuda.get_device_name()}, {versions}"
    name = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return f"{name[1] if name else platform.machine()}, {os.cpu_count()} hardware threads, {versions}"
