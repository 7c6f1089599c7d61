"""Programs of monitoring systems that judge what is written for them."""

from __future__ import annotations

import subprocess
from pathlib import Path

from support.servers import program


def judged(name: str, *words: str, folder: str = "/usr/sbin") -> str:
    """What the program says, which ends well."""
    done = subprocess.run([program(name, folder), *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def written(path: Path, text: str) -> str:
    """``path`` with this in it."""
    path.write_text(text)
    return str(path)
