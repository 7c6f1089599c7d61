"""What a started process says about itself."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from tenfold._core.secrets import hide_passwords
from tenfold._core.text import plural
from tenfold.cli import console

if TYPE_CHECKING:
    from tenfold.app import App
    from tenfold.runtime.serve import Addresses, Roles

_started = time.perf_counter()


def show(app: App, roles: Roles, addresses: Addresses, *, reloads: bool) -> None:
    """Print where everything is; an instance of a fleet leaves that to ``tenfold ps``."""
    if os.environ.get("TENFOLD_INSTANCE"):
        return
    settings = app.settings
    rows: list[tuple[str, str]] = []
    if addresses.public:
        rows.append(("API", addresses.public))
        if settings.shows_docs:
            rows.append(("Docs", f"{addresses.public}/docs"))
    if app.elsewhere:
        rows.append(("Services", ", ".join(service.name for service in app.services)))
    rows += [
        ("Operations", addresses.ops),
        ("Data", str(app.data_dir.resolve())),
        *_stores(app),
        ("Worker", _worker(app) if roles.worker else "off"),
    ]
    console.say()
    console.say(f"  {console.paint(app.name, console.BOLD)}  {console.paint(settings.app.env, console.DIM)}")
    for name, value in rows:
        shown = console.paint(value, console.CYAN) if value.startswith("http") else value
        console.say(f"  {console.paint(f'{name:<11}', console.DIM)} {shown}")
    seconds = time.perf_counter() - _started
    ending = "reloads on change, Ctrl+C stops" if reloads else "Ctrl+C stops"
    console.say(f"  {console.paint(f'Ready after {seconds:.1f} s; {ending}.', console.DIM)}")
    console.say()


def _stores(app: App) -> list[tuple[str, str]]:
    """The database, and what the settings have moved to servers."""
    settings = app.settings
    rows = [("Database", hide_passwords(settings.database.url))] if app.databases else []
    if settings.database.replicas:
        rows.append(("Replicas", str(len(settings.database.replicas))))
    if settings.cache.url != "memory:":
        rows.append(("Cache", hide_passwords(settings.cache.url)))
    if settings.guard.url:
        rows.append(("Guards", hide_passwords(settings.guard.url)))
    if settings.events.url:
        rows.append(("Events", hide_passwords(settings.events.url)))
    return rows


def _worker(app: App) -> str:
    services = app.services
    counts = (
        (len(app.jobs), "job"),
        (sum(len(s.subscriptions) for s in services), "subscriber"),
        (sum(len(s.schedules) for s in services), "schedule"),
    )
    return ", ".join(["on", *(plural(count, noun) for count, noun in counts if count)])
