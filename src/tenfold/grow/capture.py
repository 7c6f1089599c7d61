"""Change capture in SQLite, as text: ordinary triggers write which rows changed into a log. And the fence. Pure.

The log names rows, not values: the follower reads the row as it is when it gets there, so that any number of changes
to one row cost one copy. Every process that writes to the file fires the triggers, whatever library it uses.
"""

from __future__ import annotations

from collections.abc import Sequence

from tenfold.db.moved import FENCE, GROWTH
from tenfold.grow.keys import key_of, literal, quoted
from tenfold.grow.tables import Subject

LOG = "tenfold_grow_log"

STATE_TABLE = f"""CREATE TABLE IF NOT EXISTS {GROWTH} (
  id TEXT NOT NULL, target TEXT NOT NULL, started_at REAL NOT NULL, schema_version INTEGER, moved_at REAL)"""

LOG_TABLE = f"""CREATE TABLE IF NOT EXISTS {LOG} (
  seq INTEGER PRIMARY KEY AUTOINCREMENT, tbl TEXT NOT NULL, key TEXT NOT NULL)"""


def install(found: Sequence[Subject]) -> list[str]:
    """Statements that begin to capture the changes of every table with a primary key."""
    made = [LOG_TABLE]
    for subject in found:
        if subject.keys:
            made += _triggers(subject)
    return made


def remove(found: Sequence[Subject], *, keep_log: bool = False) -> list[str]:
    """Statements that end the capture."""
    names = [name for subject in found for name in _names(subject)]
    drops = [f"DROP TRIGGER IF EXISTS {quoted(name)}" for name in names]
    return drops if keep_log else [*drops, f"DROP TABLE IF EXISTS {LOG}"]


def expected(found: Sequence[Subject]) -> int:
    """How many triggers there are while changes are captured."""
    return sum(len(_names(subject)) for subject in found if subject.keys)


def fence(tables: Sequence[str], target: str) -> list[str]:
    """Statements after which no write to ``tables`` succeeds: each raises, naming ``target``."""
    made: list[str] = []
    sentence = literal(f"{FENCE} to {target}")
    for table in tables:
        for verb in ("INSERT", "UPDATE", "DELETE"):
            made.append(
                f"CREATE TRIGGER IF NOT EXISTS {_fence_name(table, verb)} BEFORE {verb} ON {quoted(table)} "
                f"BEGIN SELECT RAISE(ABORT, {sentence}); END"
            )
    return made


def unfence(tables: Sequence[str]) -> list[str]:
    """Statements that undo :func:`fence`."""
    verbs = ("INSERT", "UPDATE", "DELETE")
    return [f"DROP TRIGGER IF EXISTS {_fence_name(table, verb)}" for table in tables for verb in verbs]


def _triggers(subject: Subject) -> list[str]:
    table = subject.name
    on_insert, on_update, on_delete = _names(subject)
    old, new = _note(subject, "OLD"), _note(subject, "NEW")
    moved = " OR ".join(f"OLD.{quoted(c.name)} IS NOT NEW.{quoted(c.name)}" for c in subject.keys)
    return [
        _trigger(on_insert, "INSERT", table, f"{new};"),
        _trigger(on_update, "UPDATE", table, f"{new}; {old} WHERE {moved};"),
        _trigger(on_delete, "DELETE", table, f"{old};"),
    ]


def _trigger(name: str, verb: str, table: str, body: str) -> str:
    return f"CREATE TRIGGER IF NOT EXISTS {quoted(name)} AFTER {verb} ON {quoted(table)} BEGIN {body} END"


def _note(subject: Subject, row: str) -> str:
    return f"INSERT INTO {LOG} (tbl, key) SELECT {literal(subject.name)}, {key_of(subject, row)}"


def _names(subject: Subject) -> tuple[str, str, str]:
    base = f"tenfold_grow_{subject.name}"
    return f"{base}_i", f"{base}_u", f"{base}_d"


def _fence_name(table: str, verb: str) -> str:
    return quoted(f"tenfold_moved_{table}_{verb[0].lower()}")
