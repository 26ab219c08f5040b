"""What stands for a picture in a text, and for a position that nothing is learnt from."""

from __future__ import annotations

IMAGE = "<image>"
IGNORED = -100  # torch's and transformers' own
