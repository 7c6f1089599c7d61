"""``tenfold config``: every setting with where it came from."""

from __future__ import annotations

from pathlib import Path

from tenfold._core import settings
from tenfold.cli import console, target
from tenfold.cli.target import Config, Target
from tenfold.errors import ConfigError


def config(app: Target = None, /, *, config: Config = None) -> int:
    """Show every setting with its value and where it came from; secrets are hidden.

    Without an app, those of Tenfold itself: services' own settings are known only with it.
    """
    loaded = _load(app, config)
    rows = list(loaded.rows())
    width, shown = max(len(row[0]) for row in rows), max(min(len(row[1]), 40) for row in rows)
    section = ""
    for path, value, source in rows:
        if path.partition(".")[0] != section:
            if section:
                console.say()
            section = path.partition(".")[0]
        line = f"{path:<{width}}  {value:<{shown}}  {source}"
        console.say(console.paint(line, console.DIM if source == "default" else console.BOLD))
    return 0


def _load(app: str | None, file: Path | None) -> settings.Loaded:
    try:
        target.named(app, file)
    except ConfigError:
        if app is not None:
            raise
        return settings.load(file)
    return target.load(app, file).configure(file)
