"""Multilingual visual instruction tuning, reproduced from data to tables (arXiv 2406.02539)."""

__version__ = "0.2.0"
