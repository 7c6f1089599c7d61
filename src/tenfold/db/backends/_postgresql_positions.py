"""How far a PostgreSQL has come: told with a COMMIT, in the same round trip, and found by looking at a node.

**At a commit.** asyncpg gives no rows of a message with several statements. But the server reports every change of
``application_name`` on its own account, so the position is put there, behind the name. A COMMIT then is three
statements: the first notes whether anything was written (and fails where the transaction has failed, as a COMMIT in
front of other statements would not), the last sets the position. The insert position is at or behind everything that
is committed, on any setting of ``synchronous_commit``.

**A look** takes timeline and position of a node in one statement. A standby that follows a promoted one has the new
timeline from the first record that it receives; without the right to see that (``pg_monitor``) it is told late, with
the standby's next restart point, and its reads go to the primary until then.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from tenfold._core.causal import BEYOND, Position
from tenfold.db.backends._postgresql_link import AsyncpgLink
from tenfold.db.plan import Plan
from tenfold.db.watch import Look, Watch
from tenfold.errors import ConfigError, DatabaseError, StatementError

if TYPE_CHECKING:
    from tenfold.db.backends._postgresql_driver import PgLink

COMMIT_TELLING: Final = (
    "SELECT set_config('application_name', CASE WHEN pg_current_xact_id_if_assigned() IS NULL THEN '-' ELSE '+' END, "
    "false); COMMIT; "
    "SELECT set_config('application_name', 'tenfold ' || current_setting('application_name') || ' ' || "
    "left(pg_walfile_name(at), 8) || ' ' || (at - '0/0'::pg_lsn), false) FROM pg_current_wal_insert_lsn() AS at"
)
"""COMMIT, and ``application_name`` such as ``tenfold + 00000001 26489648``."""

_TOLD = re.compile(r"tenfold ([+-]) ([0-9A-F]{8}) (\d{1,20})")
_LOOK = Plan(
    """
SELECT c.system_identifier, pg_is_in_recovery(),
  CASE WHEN pg_is_in_recovery()
    THEN greatest((SELECT received_tli FROM pg_stat_wal_receiver), p.timeline_id, r.min_recovery_end_timeline)
    ELSE ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::bigint END,
  (CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_insert_lsn() END
    - '0/0'::pg_lsn)::bigint
FROM pg_control_system() AS c, pg_control_checkpoint() AS p, pg_control_recovery() AS r
""",
    (),
    None,
    named=False,
)
_LOOK_S = 5.0


def told(reported: str) -> Position | None:
    """What ``application_name`` says after :data:`COMMIT_TELLING`; None when nothing was written."""
    match = _TOLD.fullmatch(reported)
    if match is None:
        return BEYOND
    wrote, timeline, offset = match.groups()
    return Position(int(timeline, 16), int(offset)) if wrote == "+" else None


class PgWatch(Watch):
    """Looks through a connection of its own."""

    def __init__(self, link: PgLink, lost: Callable[[], None]) -> None:
        self._link = link
        self._lost = lost
        self._closing: asyncio.Task[None] | None = None
        if isinstance(link, AsyncpgLink):
            link.connection.add_termination_listener(self._terminated)

    async def look(self) -> Look:
        try:
            rows = await self._link.fetch(_LOOK, (), 0, _LOOK_S)
        except Exception as error:
            failed = self._link.failed(error, _LOOK, read_only=True)
            raise _explained(failed) from error
        cluster, copy, timeline, offset = rows[0]
        return Look(f"{cluster:x}", copy, Position(timeline or 0, offset or 0))

    def close(self) -> None:
        if self._closing is None:
            self._closing = asyncio.get_running_loop().create_task(self._link.discard())

    def _terminated(self, _: object) -> None:
        if self._closing is None:
            self._lost()


def _explained(error: DatabaseError) -> DatabaseError | ConfigError:
    if not isinstance(error, StatementError):
        return error
    return ConfigError(
        f"the server does not tell how far it has come: {error}",
        remedy="Use PostgreSQL 13 or newer, and nothing that only resembles it; or take database.replicas away.",
    )
