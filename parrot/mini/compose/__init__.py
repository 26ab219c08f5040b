"""Composing the mini scale's data: pictures of concepts by several houses of artists, asked about in six languages."""
