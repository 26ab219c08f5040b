"""The mini scale's raw material: drawings of everyday concepts by several emoji sets, and their names.

A maintainer's command (``python -m parrot.mini.sources``) makes ``workflow/resources/mini`` once from public packages;
what it makes is shipped, so that nobody else needs npm or a renderer. It needs npm and the extra ``sources``.
"""
