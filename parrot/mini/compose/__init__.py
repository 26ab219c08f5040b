"""Composing the mini scale's data: images of concepts by several emoji sets, asked about in six languages."""
