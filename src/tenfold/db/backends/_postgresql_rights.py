"""What the role of the URL may do with the tables that are there, and the GRANT that it lacks."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from tenfold.db.backends._postgresql_errors import SETTING
from tenfold.db.schema import FEW, some
from tenfold.errors import ConfigError

if TYPE_CHECKING:
    from tenfold.db.backends._postgresql_url import Address

_LACKS = sa.text("""
SELECT name, string_agg(wanted, ', ' ORDER BY wanted) FROM (
  SELECT name, wanted FROM unnest(CAST(:written AS text[])) AS name
  CROSS JOIN unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS wanted
  WHERE NOT has_table_privilege(to_regclass(name), wanted)
  UNION ALL
  SELECT name, 'SELECT' FROM unnest(CAST(:read AS text[])) AS name
  WHERE NOT has_any_column_privilege(to_regclass(name), 'SELECT')
) AS lacking GROUP BY name ORDER BY name
""")
_LACKS_SEQUENCES = sa.text("""
SELECT DISTINCT used.refobjid::regclass::text, used.objid::regclass::text
FROM unnest(CAST(:written AS text[])) AS name
JOIN pg_depend AS used ON used.refobjid = to_regclass(name) AND used.deptype = 'a' AND used.classid = 'pg_class'::regclass
JOIN pg_class AS kind ON kind.oid = used.objid
WHERE CASE kind.relkind WHEN 'S' THEN NOT (has_sequence_privilege(used.objid, 'USAGE') AND has_sequence_privilege(used.objid, 'SELECT')) END ORDER BY 1
""")
"""The function raises for what is no sequence, and the planner may ask it before any other condition but a CASE."""
_ALL = "SELECT, INSERT, UPDATE, DELETE"
_PLAIN = re.compile(r"[a-z_][a-z0-9_]*")


def missing_rights(
    connection: sa.Connection, address: Address, written: Sequence[sa.Table], read: Sequence[sa.Table]
) -> ConfigError | None:
    """See :meth:`~tenfold.db.contract.DatabaseBackend.missing_rights`."""
    name = connection.dialect.identifier_preparer.format_table
    tables: dict[str, Any] = {"written": [name(t) for t in written], "read": [name(t) for t in read]}
    lacks = connection.execute(_LACKS, tables).all()
    sequences = connection.execute(_LACKS_SEQUENCES, {"written": tables["written"]}).all()
    if not (lacks or sequences):
        return None
    names = sorted({row[0] for row in (*lacks, *sequences)})
    if len(names) > FEW:
        schema = quoted(connection.exec_driver_sql("SELECT current_schema()").scalar_one())
        grants = [
            f"{_ALL} ON ALL TABLES IN SCHEMA {schema}",
            f"USAGE, SELECT ON ALL SEQUENCES IN SCHEMA {schema}",
        ]
    else:
        grants = [f"{rights} ON {table}" for table, rights in lacks]
        grants += [f"USAGE, SELECT ON SEQUENCE {sequence}" for _, sequence in sequences]
    said = "; ".join(f"GRANT {grant} TO {quoted(address.user)}" for grant in grants)
    return ConfigError(
        f"its user {address.user!r} may not use {some(names)} of the app.", where=SETTING,
        remedy=f"Let their owner run: {said}",
    )  # fmt: skip


def no_schema(address: Address, search_path: str = "") -> ConfigError:
    """The role finds no schema to work in."""
    role, path = quoted(address.user), f" ({search_path})" if search_path else ""
    return ConfigError(
        f"its user {address.user!r} has no schema to work in: none of its search_path{path} exists, or it may not use "
        "it.", where=SETTING, remedy=f"Let the owner of the database run: ALTER ROLE {role} SET search_path = public, "
        f"or: GRANT USAGE, CREATE ON SCHEMA public TO {role}",
    )  # fmt: skip


def refused_change(said: str, address: Address) -> ConfigError:
    """A migration may not do what it has to."""
    role = quoted(address.user)
    found = re.search(
        r"(owner of|permission denied for) (\w+) (\S+)", said
    )  # in English; else a general remedy
    what, kind, name = found.groups() if found else ("", "", "")
    if what == "owner of":
        remedy = f"Migrate as the owner, or let that one run: ALTER {kind.upper()} {name} OWNER TO {role}"
    elif kind == "schema":
        remedy = f"Let the owner of the database run: GRANT USAGE, CREATE ON SCHEMA {name} TO {role}"
    elif kind == "table":
        remedy = f"Let its owner run: GRANT {_ALL} ON {name} TO {role}"
    else:
        remedy = "Grant it the right, or migrate as a user that owns the tables."
    return ConfigError(
        f"its user {address.user!r} may not do what the migration has to: {said}.",
        where=SETTING,
        remedy=remedy,
    )


def quoted(name: str) -> str:
    """A name as SQL takes it."""
    return name if _PLAIN.fullmatch(name) else '"' + name.replace('"', '""') + '"'
