"""The statements of the outbox on each kind of database, built once.

Lists travel as one parameter (JSON, or an array on PostgreSQL), so that one prepared statement serves any number of
rows. The list is always the outer loop and the table is sought by its key.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import sqlalchemy as sa

from tenfold.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tenfold.db.database import Database

# ruff: noqa: S608 - the parts that are put together here are all constants of this file

COLUMNS = ("topic", "event_key", "event_id", "payload", "context", "created_at")
_NAMES = ", ".join(COLUMNS)
_READ = f"SELECT id, {_NAMES} FROM tenfold_outbox"
_LINE = "CASE WHEN event_key IS NULL THEN {id} ELSE {key} END"
"""What keeps its order, as :func:`tenfold.events.policy.line_of` names it."""

INSERT_ONE = sa.text(
    f"INSERT INTO tenfold_outbox ({_NAMES}) VALUES (:topic, :event_key, :event_id, :payload, :context, :created_at)"
)
INSERT_RETURNING = sa.text(INSERT_ONE.text + " RETURNING id")


class Statements(NamedTuple):
    """Of one kind of database."""

    insert: sa.TextClause
    """``rows``: in the order in which their ids are to rise."""
    unsent: sa.TextClause
    """``limit`` rows by id."""
    around: sa.TextClause
    """The same without those of ``topics`` and ``lines``."""
    mark: sa.TextClause
    """``ids`` are sent, at ``at``."""
    mark_last: sa.TextClause | None
    """The same for who commits with it, where the database has that."""
    refuse: sa.TextClause
    """``ids`` were refused, with the ``errors`` beside them."""
    again: sa.TextClause
    """``ids`` are unsent."""
    prune: sa.TextClause
    """Remove ``ids``."""
    rows: Callable[[Sequence[Sequence[Any]]], dict[str, Any]]
    """Parameters of ``insert``."""
    list: Callable[[Sequence[Any]], Any]
    """A parameter that is a list."""


def _json(values: Sequence[Any]) -> str:
    return msgspec.json.encode(values).decode()


def _sqlite() -> Statements:
    ids = "id IN (SELECT value FROM json_each(:ids))"
    line = _LINE.format(id="'#' || id", key="topic || '/' || event_key")
    fields = ", ".join(f"value ->> {n}" for n in range(len(COLUMNS)))
    # By name: after an ANALYZE while most rows had one time, or none, it would read all that was ever sent.
    read = f"{_READ} INDEXED BY tenfold_outbox_unsent WHERE sent_at IS NULL"
    return Statements(
        insert=sa.text(f"INSERT INTO tenfold_outbox ({_NAMES}) SELECT {fields} FROM json_each(:rows)"),
        unsent=sa.text(f"{read} ORDER BY id LIMIT :limit"),
        around=sa.text(
            f"{read} AND topic NOT IN (SELECT value FROM json_each(:topics)) "
            f"AND {line} NOT IN (SELECT value FROM json_each(:lines)) ORDER BY id LIMIT :limit"
        ),
        mark=sa.text(f"UPDATE tenfold_outbox SET sent_at = :at, error = NULL WHERE {ids}"),
        mark_last=None,
        refuse=sa.text(
            "UPDATE tenfold_outbox SET failures = failures + 1, error = e.value FROM json_each(:ids) i, "
            "json_each(:errors) e WHERE e.key = i.key AND tenfold_outbox.id = i.value AND sent_at IS NULL"
        ),
        again=sa.text(f"UPDATE tenfold_outbox SET sent_at = NULL WHERE {ids}"),
        prune=sa.text(f"DELETE FROM tenfold_outbox WHERE {ids}"),
        rows=lambda rows: {"rows": _json(rows)},
        list=_json,
    )


def _postgresql() -> Statements:
    # Behind a subselect, or every short list would be planned anew: see tenfold.queue.backends._postgresql_sql.
    ids = "id = ANY(CAST((SELECT CAST(:ids AS bigint[])) AS bigint[]))"
    line = _LINE.format(id="'#' || id", key="topic || '/' || event_key")
    mark = f"UPDATE tenfold_outbox SET sent_at = :at, error = NULL WHERE {ids}"
    types = ("text", "text", "text", "text", "text", "float8")
    arrays = ", ".join(f"CAST(:{name} AS {type_}[])" for name, type_ in zip(COLUMNS, types, strict=True))
    return Statements(
        insert=sa.text(f"INSERT INTO tenfold_outbox ({_NAMES}) SELECT * FROM unnest({arrays}) RETURNING id"),
        unsent=sa.text(f"{_READ} WHERE sent_at IS NULL ORDER BY id LIMIT :limit"),
        around=sa.text(
            f"{_READ} WHERE sent_at IS NULL AND topic <> ALL(CAST(:topics AS text[])) "
            f"AND {line} <> ALL(CAST(:lines AS text[])) ORDER BY id LIMIT :limit"
        ),
        mark=sa.text(mark),
        # It need not be on the disk at once: what a server that crashes has forgotten is published again.
        mark_last=sa.text(
            f"WITH marked AS ({mark} AND (SELECT set_config('synchronous_commit', 'off', true)) IS NOT NULL) SELECT 1"
        ),
        refuse=sa.text(
            "UPDATE tenfold_outbox SET failures = failures + 1, error = r.error FROM "
            "unnest(CAST(:ids AS bigint[]), CAST(:errors AS text[])) AS r(id, error) "
            f"WHERE tenfold_outbox.{ids} AND tenfold_outbox.id = r.id AND sent_at IS NULL"
        ),
        again=sa.text(f"UPDATE tenfold_outbox SET sent_at = NULL WHERE {ids}"),
        prune=sa.text(f"DELETE FROM tenfold_outbox WHERE {ids}"),
        rows=lambda rows: dict(zip(COLUMNS, map(list, zip(*rows, strict=True)), strict=True)),
        list=list,
    )


def _mysql() -> Statements:
    paths = ("VARCHAR(255)", "VARCHAR(512)", "VARCHAR(64)", "LONGTEXT", "LONGTEXT", "DOUBLE")
    fields = ", ".join(
        f"{name} {type_} PATH '$[{n}]'" for n, (name, type_) in enumerate(zip(COLUMNS, paths, strict=True))
    )
    each = "JSON_TABLE(:ids, '$[*]' COLUMNS (n FOR ORDINALITY, id BIGINT PATH '$')) j"
    texts = "JSON_TABLE(:errors, '$[*]' COLUMNS (n FOR ORDINALITY, error LONGTEXT PATH '$')) e"
    ours = "STRAIGHT_JOIN tenfold_outbox o FORCE INDEX (PRIMARY) ON o.id = j.id"
    of = "FROM tenfold_outbox FORCE INDEX (tenfold_outbox_sent) WHERE sent_at IS NULL"
    line = _LINE.format(id="CONCAT('#', id)", key="CONCAT(topic, '/', event_key)")

    def listed(name: str) -> str:
        return f"(SELECT v FROM JSON_TABLE(:{name}, '$[*]' COLUMNS (v VARCHAR(800) PATH '$')) x)"

    return Statements(
        insert=sa.text(
            f"INSERT INTO tenfold_outbox ({_NAMES}) SELECT {_NAMES} FROM "
            f"JSON_TABLE(:rows, '$[*]' COLUMNS (n FOR ORDINALITY, {fields})) j ORDER BY n"
        ),
        unsent=sa.text(f"SELECT id, {_NAMES} {of} ORDER BY id LIMIT :limit"),
        around=sa.text(
            f"SELECT id, {_NAMES} {of} AND topic NOT IN {listed('topics')} "
            f"AND {line} NOT IN {listed('lines')} ORDER BY id LIMIT :limit"
        ),
        mark_last=None,
        mark=sa.text(f"UPDATE {each} {ours} SET o.sent_at = :at, o.error = NULL"),
        refuse=sa.text(
            f"UPDATE {each} STRAIGHT_JOIN {texts} ON e.n = j.n {ours} "
            "SET o.failures = o.failures + 1, o.error = e.error WHERE o.sent_at IS NULL"
        ),
        again=sa.text(f"UPDATE {each} {ours} SET o.sent_at = NULL"),
        prune=sa.text(f"DELETE o FROM {each} {ours}"),
        rows=lambda rows: {"rows": _json(rows)},
        list=_json,
    )


_MAKE = {"sqlite": _sqlite, "postgresql": _postgresql, "mysql": _mysql, "mariadb": _mysql}


@cache
def _of(name: str) -> Statements:
    if name not in _MAKE:
        raise ConfigError(
            f"the outbox of events cannot be kept in a database of the kind {name!r}.",
            where="events.url",
            remedy="Use SQLite, PostgreSQL, MariaDB or MySQL, or leave events.url empty.",
        )
    return _MAKE[name]()


def statements(database: Database) -> Statements:
    """Those of the database's kind. Raises ConfigError for one that has none."""
    return _of(database.backend.dialect.name)
