"""``tenfold events``: topics, what they say and what was released of them."""

from __future__ import annotations

from cyclopts import App as Commands

from tenfold.cli import event_schemas

commands = Commands(name="events", help="Look at topics and their schemas.")
commands.command(event_schemas.schema)
commands.command(event_schemas.release)
