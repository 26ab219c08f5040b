"""Data sets: composing, fetching, checking, and feeding them to the training."""
