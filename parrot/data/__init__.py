"""Conversation sets, benchmarks and images: reading, checking, feeding them to a training."""
