"""Paths of shards."""

import glob
import os
from pathlib import Path


def expand(paths, parameter):
    """Return a list of paths of existing files from one path, a glob pattern or a list."""
    if isinstance(paths, str | os.PathLike):
        pattern = str(paths)
        if isinstance(paths, str) and glob.has_magic(pattern) and not os.path.exists(pattern):
            found = sorted(Path(p) for p in glob.glob(pattern, recursive=True))
            if not found:
                raise FileNotFoundError(f"{parameter}={paths!r} matches no file")
        else:
            found = [Path(paths)]
    else:
        found = [Path(p) for p in paths]
        if not found:
            raise ValueError(f"{parameter} is empty; give at least one file")
    for path in found:
        if not path.is_file():
            raise FileNotFoundError(f"{parameter}: there is no file {str(path)!r}")
    return found
