"""Where the shop keeps files: folders below the app's data directory."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from tenfold import Settings


def folder(settings: Settings, name: str) -> Path:
    """The folder ``name`` below ``app.data_dir``, made when it is missing."""
    path = Path(settings.app.data_dir, name).absolute()
    path.mkdir(parents=True, exist_ok=True)
    return path


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole or not at all, whenever the process dies."""
    # A name of its own: two jobs may write the same file at the same time.
    handle, partial = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with open(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        os.unlink(partial)
        raise
