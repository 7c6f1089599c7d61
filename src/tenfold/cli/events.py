"""``tenfold events``: topics, how their events flow, what they say and what was released of them."""

from __future__ import annotations

from cyclopts import App as Commands

from tenfold.cli import event_flow, event_schemas

commands = Commands(
    name="events", help="Look at topics and their schemas, replay events, deal with those in quarantine."
)
commands.default(event_flow.list_)
commands.command(event_flow.list_, name="list")
commands.command(event_flow.replay)
commands.command(event_flow.quarantine)
commands.command(event_schemas.schema)
commands.command(event_schemas.release)
