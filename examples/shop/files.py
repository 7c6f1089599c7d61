"""Where the shop keeps files: folders below the app's data directory."""

from __future__ import annotations

import os
from pathlib import Path

from tenfold import Settings


def folder(settings: Settings, name: str) -> Path:
    """The folder ``name`` below ``app.data_dir``, made when it is missing."""
    path = Path(settings.app.data_dir, name).absolute()
    path.mkdir(parents=True, exist_ok=True)
    return path


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole or not at all, whenever the process dies."""
    partial = path.with_name(f".{path.name}.part")
    with partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
