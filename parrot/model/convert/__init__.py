"""The released checkpoints' layout: loading, importing and exporting it."""

from parrot.model.convert.opening import load_released

__all__ = ["load_released"]
