"""Maintainers: schemas and images of the documentation, written from the code."""
