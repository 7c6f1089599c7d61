"""SQL text that leaves something behind in its session, beyond the transaction."""

from __future__ import annotations

import re

_COMMENTS = re.compile(r"--[^\n]*|/\*.*?\*/", re.DOTALL)
_LEAVES = re.compile(
    r"^\s*SET\s+(?!(?:LOCAL|TRANSACTION|CONSTRAINTS|STATEMENT)\b)"  # SET LOCAL and the like end with the transaction
    r"|\bset_config\s*\((?![^()]*,\s*true\s*\))"  # with true it does, too
    r"|\bpg_(?:try_)?advisory_lock\w*\s*\(|\bGET_LOCK\s*\("
    r"|^\s*(?:LISTEN|PREPARE|DECLARE\b.*\bWITH\s+HOLD|LOCK\s+TABLES|USE)\b"
    r"|\b(?:CREATE|INTO)\s+(?:GLOBAL\s+|LOCAL\s+)?TEMP(?:ORARY)?\b|@\w+\s*:=",
    re.IGNORECASE | re.DOTALL,
)


def leaves_state(sql: str) -> bool:
    """Whether the session is another one afterwards: the connection then serves nobody else. Says yes rather once too
    often than once too seldom; a connection costs a few milliseconds."""
    return _LEAVES.search(_COMMENTS.sub(" ", sql)) is not None
