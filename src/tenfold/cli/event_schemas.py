"""``tenfold events schema`` and ``tenfold events release``: what topics say, and what was released of them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from cyclopts import Parameter

from tenfold._core.text import nearest, plural
from tenfold.cli import console, target
from tenfold.cli.target import Config
from tenfold.errors import ConfigError

if TYPE_CHECKING:
    from tenfold.app import App
    from tenfold.events.released import Judgement
    from tenfold.events.topic import Topic

Where = Annotated[str | None, Parameter(name="--app", help="The app, as module:name. Default: app.target.")]


def schema(
    topic: Annotated[
        str | None, Parameter(name="TOPIC", help="As orders.order-placed. Default: list all.")
    ] = None,
    /,
    *,
    app: Where = None,
    config: Config = None,
) -> int:
    """List the topics with their versions, or print the JSON Schema of one."""
    from tenfold.events import released

    loaded = _loaded(app, config)
    if topic is not None:
        text = msgspec.json.encode(released.schema_of(_named(loaded, topic).type))
        console.say(msgspec.json.format(text, indent=2).decode())
        return 0
    rows = [_row(topic, home) for topic, home in topics_of(loaded)]
    console.table(rows, headings=("topic", "type", "version", "released", "reads"))
    if not rows:
        console.say("No service has a topic.")
    return 0


def release(
    *,
    force: Annotated[
        bool,
        Parameter(
            negative=(),
            help="Replace versions although readers would not understand each other: only for versions of which no "
            "event was ever published.",
        ),
    ] = False,
    app: Where = None,
    config: Config = None,
) -> int:
    """Note the schemas of all topics down, in schemas/ beside each service; commit them. Exit with 1, and write
    nothing, when a change would lose events."""
    from tenfold.events import released

    loaded = _loaded(app, config)
    found = [(topic, home, released.read(topic, home)) for topic, home in topics_of(loaded)]
    problems = [p for topic, _, known in found for p in released.judge(topic, known).problems]
    if problems and not force:
        for problem in problems:
            console.note(f"{console.paint('✗', console.RED)} {problem}")
        return console.fail(f"{plural(len(problems), 'change')} would lose events; nothing was written.", 1)
    written = [topic for topic, home, known in found if released.release(topic, home, known)]
    for topic, home in topics_of(loaded):
        if topic in written:
            path = os.path.relpath(released.path_of(topic, home))
            console.say(f"{topic.name} version {topic.schema.version} → {path}")
    if not written:
        console.say(f"{plural(len(found), 'topic')}: everything is released as it is.")
    return 0


def judged(app: App) -> Judgement:
    """For ``tenfold check``: all topics of an app against what was released of them."""
    from tenfold.events import released

    all_found = released.Judgement()
    for topic, home in topics_of(app):
        found = released.judge(topic, released.read(topic, home))
        all_found.problems += found.problems
        if released.path_of(topic, home).exists():  # who has not begun to release is not reminded of it
            all_found.notes += found.notes
    every = [topic for topic, _ in topics_of(app)]
    for path in released.left_over(every, {service.home for service in app.services}):
        all_found.notes.append(
            f"{os.path.relpath(path)}: the code has no such topic; remove the file when nobody publishes it."
        )
    return all_found


def topics_of(app: App) -> list[tuple[Topic[Any], Path]]:
    """Every topic with the folder of the service that publishes it."""
    return [(topic, service.home) for service in app.services for topic in service.topics]


def _loaded(app: str | None, config: Path | None) -> App:
    loaded = target.load(app, config)
    loaded.configure(config)
    return loaded


def _named(app: App, name: str) -> Topic[Any]:
    known = {topic.name: topic for topic, _ in topics_of(app)}
    if name not in known:
        raise ConfigError(f"there is no topic {name!r}.{nearest(name, known)}", where="TOPIC")
    return known[name]


def _row(topic: Topic[Any], home: Path) -> tuple[str, ...]:
    from tenfold.events import released

    versions = sorted(released.read(topic, home).versions)
    current, oldest = topic.schema.version, topic.schema.oldest
    reads = f"{oldest} to {current}" if oldest < current else str(current)
    type_ = getattr(topic.type, "__name__", str(topic.type))
    return topic.name, type_, str(current), ", ".join(map(str, versions)) or "–", reads
