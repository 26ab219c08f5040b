"""Parrot in other evaluation suites: its models behind their interfaces, its predictions in their files."""
