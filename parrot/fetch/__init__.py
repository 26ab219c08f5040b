"""Bringing data here and checking it."""
