"""The released schemas of topics, kept in the repository, and what separates the code from them.

One file per topic, ``schemas/orders.order-placed.json`` beside the module of the service that publishes it: the JSON
Schema of every version that was ever released. ``tenfold events release`` writes them, ``tenfold check`` compares:
within a version both old and new code must understand each other (:mod:`~tenfold.events.compat`); from a version that
was released, upcasters must lead to the one of the code.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from tenfold._core.json_schema import Schemas
from tenfold.errors import ConfigError
from tenfold.events.compat import DEFS, Misfit, Schema, misfits
from tenfold.events.topic import Topic

FOLDER = "schemas"


class Released(msgspec.Struct, forbid_unknown_fields=True):
    """What the file of one topic says."""

    topic: str
    versions: dict[int, dict[str, Any]] = {}

    @property
    def newest(self) -> int:
        """0 when none was released."""
        return max(self.versions, default=0)


@dataclass
class Judgement:
    """What separates one topic from its released schemas."""

    problems: list[str] = field(default_factory=list[str])
    """Changes that lose events, each with the way out."""
    notes: list[str] = field(default_factory=list[str])
    """What is not wrong, but not released yet."""


def schema_of(type_: Any) -> dict[str, Any]:
    """The JSON Schema of a type, complete in itself."""
    schemas = Schemas([], [type_], ref=DEFS)
    schema = schemas.of(type_)
    definitions = schemas.prune(schema)
    return {**schema, "$defs": definitions} if definitions else schema


def path_of(topic: Topic[Any], home: Path) -> Path:
    """The file of a topic whose service is declared in the folder ``home``."""
    return home / FOLDER / f"{topic.name}.json"


def read(topic: Topic[Any], home: Path) -> Released:
    """What was released of a topic; raises ConfigError for a file that is not one of these."""
    path = path_of(topic, home)
    try:
        return msgspec.json.decode(path.read_bytes(), type=Released)
    except FileNotFoundError:
        return Released(topic.name)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"it is no file of released schemas: {error}.",
            where=str(path),
            remedy="Take it from version control again; `tenfold events release` writes it.",
        ) from None


def left_over(topics: Iterable[Topic[Any]], homes: Iterable[Path]) -> list[Path]:
    """Files of topics that the code no longer has."""
    names = {f"{topic.name}.json" for topic in topics}
    found = {path for home in homes for path in (home / FOLDER).glob("*.json")}
    return sorted(path for path in found if path.name not in names)


def judge(topic: Topic[Any], released: Released) -> Judgement:
    """Compare a topic with what was released of it."""
    found = Judgement()
    current, newest = topic.schema.version, released.newest
    where = f"topic {topic.name}"
    if current < newest:
        found.problems.append(
            f"{where}: version {newest} was released, and the code says {current}; versions only rise. "
            f"Write version={newest} (or more)."
        )
    elif current > newest > 0 and topic.schema.oldest > newest:
        found.problems.append(
            f"{where}: version {newest} was released, and no upcaster leads from it to {current}; events that wait "
            f"would not be read. Add upcast={{{newest}: …}}."
        )
    else:
        found.problems += [
            sentence
            for version, schema in sorted(released.versions.items())
            if topic.schema.oldest <= version <= current
            for sentence in _compared(topic, version, schema)
        ]
    if not found.problems and schema_of(topic.type) != released.versions.get(current):
        state = f"version {current} is not released yet" if current > newest else "it has changed compatibly"
        found.notes.append(f"{where}: {state}; `tenfold events release` notes it down.")
    return found


def _compared(topic: Topic[Any], version: int, released: Schema) -> list[str]:
    """Sentences about one version: of both directions for the current one, of events that wait for older ones."""
    type_ = topic.schema.type_of(version)
    mine = schema_of(type_)
    where = f"topic {topic.name}, version {version}"
    if version < topic.schema.version:
        return [
            f"{where}: {m.path} {m.written} in events already published, and the upcaster from {version} takes a "
            f"{getattr(type_, '__name__', type_)}, which does not: its readers {m.read}. Take what was released."
            for m in misfits(released, mine)
        ]
    remedy = f"Raise the version to {version + 1} and add upcast={{{version}: …}}"
    return [
        *(
            f"{where}: {m.path} {m.written} in events already published, and subscribers of this code {m.read}. "
            f"{remedy}{_or_default(m)}."
            for m in misfits(released, mine)
        ),
        *(
            f"{where}: {m.path} {m.written} in events that this code publishes, and subscribers of the last release "
            f"{m.read}. {remedy}: those then wait for the deploy."
            for m in misfits(mine, released)
        ),
    ]


def _or_default(misfit: Misfit) -> str:
    return ", or give it a default" if misfit.written == "may be missing" else ""


def release(topic: Topic[Any], home: Path, released: Released) -> bool:
    """Note the schema of the current version down; False when it is noted so already."""
    schema = schema_of(topic.type)
    if released.versions.get(topic.schema.version) == schema:
        return False
    released.versions[topic.schema.version] = schema
    versions = {str(version): released.versions[version] for version in sorted(released.versions)}
    text = msgspec.json.format(msgspec.json.encode({"topic": topic.name, "versions": versions}), indent=2)
    path = path_of(topic, home)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text + b"\n")
    return True
