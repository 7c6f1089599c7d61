"""A role for each service: what they may reach now, and the statements that lead to what they are to reach."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import sqlalchemy as sa

from tenfold.db.backends._postgresql_rights import quoted
from tenfold.db.ownership import Owned, Step

ALL = ("SELECT", "INSERT", "UPDATE", "DELETE")
PUBLIC = ""
"""Everybody, as a grantee."""

_EXISTING = sa.text(
    "SELECT name FROM unnest(CAST(:names AS text[])) AS name WHERE to_regclass(name) IS NOT NULL"
)
_ROLES = sa.text("SELECT rolname, rolsuper FROM pg_roles WHERE rolname = ANY(CAST(:names AS text[]))")
_GRANTS = sa.text("""
SELECT name, coalesce(role.rolname, ''), acl.privilege_type FROM unnest(CAST(:names AS text[])) AS name
JOIN pg_class AS kind ON kind.oid = to_regclass(name) CROSS JOIN LATERAL aclexplode(kind.relacl) AS acl
LEFT JOIN pg_roles AS role ON role.oid = acl.grantee WHERE acl.grantee <> kind.relowner
""")
_SEQUENCES = sa.text("""
SELECT name, used.objid::regclass::text FROM unnest(CAST(:names AS text[])) AS name
JOIN pg_depend AS used ON used.refobjid = to_regclass(name) AND used.deptype = 'a' AND used.classid = 'pg_class'::regclass
JOIN pg_class AS kind ON kind.oid = used.objid WHERE kind.relkind = 'S' ORDER BY 1, 2
""")
_ENTERS = sa.text("SELECT has_schema_privilege(:role, current_schema(), 'USAGE')")
_USABLE = sa.text("""
SELECT name FROM unnest(CAST(:names AS text[])) WITH ORDINALITY AS given(name, at) WHERE to_regclass(name) IS NOT NULL
AND (has_table_privilege(to_regclass(name), 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE')
  OR has_any_column_privilege(to_regclass(name), 'SELECT, INSERT, UPDATE')) ORDER BY at
""")


@dataclass(slots=True)
class State:
    """What the database has."""

    schema: str
    tables: set[str]
    roles: dict[str, bool] = field(default_factory=dict[str, bool])
    """By name: whether nothing is refused to it (a superuser)."""
    grants: dict[tuple[str, str], set[str]] = field(default_factory=dict[tuple[str, str], set[str]])
    """By role and table or sequence."""
    sequences: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    entering: set[str] = field(default_factory=set[str])
    """Roles that may use the schema."""


def plan_roles(
    connection: sa.Connection, services: Sequence[Owned], shared: Sequence[sa.Table]
) -> list[Step]:
    """See :meth:`~tenfold.db.contract.DatabaseBackend.plan_roles`."""
    name = connection.dialect.identifier_preparer.format_table
    own = {each.role: [name(table) for table in each.tables] for each in services}
    read = {each.role: [name(table) for table in each.read] for each in services}
    common = [name(table) for table in shared]
    known = sorted({*common, *(t for tables in (*own.values(), *read.values()) for t in tables)})
    return steps(_state(connection, list(own), known), own, read, common)


def usable(connection: sa.Connection, tables: Sequence[sa.Table]) -> list[str]:
    """See :meth:`~tenfold.db.contract.DatabaseBackend.usable`."""
    name = connection.dialect.identifier_preparer.format_table
    named = {name(table): table.fullname for table in tables}
    return [named[row[0]] for row in connection.execute(_USABLE, {"names": list(named)})]


def steps(
    state: State, own: dict[str, list[str]], read: dict[str, list[str]], shared: Sequence[str]
) -> list[Step]:
    """From what there is to what is wanted; pure. Tables that are not there yet are left out: migrate first."""
    made = list(_roles(state, list(own)))
    mine = {table for tables in own.values() for table in tables} | set(shared)
    open_ = sorted(table for table in mine & state.tables if state.grants.get((PUBLIC, table)))
    if open_:
        made.append(Step(f"REVOKE ALL ON {', '.join(open_)} FROM PUBLIC", "everybody could use them"))
    for role, tables in own.items():
        wanted: dict[str, tuple[str, ...]] = dict.fromkeys((*tables, *shared), ALL)
        wanted |= dict.fromkeys(read[role], ("SELECT",))
        made += _grants(state, role, wanted)
        made += _revokes(state, role, sorted(mine - wanted.keys()))
    return made


def _roles(state: State, roles: Sequence[str]) -> Iterator[Step]:
    for role in roles:
        name = quoted(role)
        if role not in state.roles:
            options = "LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOINHERIT NOBYPASSRLS"
            yield Step(
                f"CREATE ROLE {name} {options} PASSWORD {{password}}",
                "a service needs a role of its own",
                role,
            )
        elif state.roles[role]:
            yield Step(f"ALTER ROLE {name} NOSUPERUSER", "to a superuser nothing is refused")
        if role not in state.entering:
            yield Step(
                f"GRANT USAGE ON SCHEMA {state.schema} TO {name}", "without it, its tables are not found"
            )


def _grants(state: State, role: str, wanted: dict[str, tuple[str, ...]]) -> Iterator[Step]:
    lacking: dict[tuple[str, ...], list[str]] = defaultdict(list)
    sequences: list[str] = []
    for table, rights in wanted.items():
        if table not in state.tables:
            continue
        has = state.grants.get((role, table), set())
        if missing := tuple(right for right in rights if right not in has):
            lacking[missing].append(table)
        if "INSERT" in rights:
            every = state.sequences.get(table, [])
            # SELECT: the event store asks how far its numbers have been given.
            sequences += [s for s in every if not {"USAGE", "SELECT"} <= state.grants.get((role, s), set())]
    for missing, tables in lacking.items():
        yield Step(
            f"GRANT {', '.join(missing)} ON {', '.join(tables)} TO {quoted(role)}",
            "its own and the shared tables",
        )
    if sequences:
        yield Step(
            f"GRANT USAGE, SELECT ON SEQUENCE {', '.join(sequences)} TO {quoted(role)}",
            "they number its rows",
        )


def _revokes(state: State, role: str, others: Sequence[str]) -> Iterator[Step]:
    reached = [table for table in others if table in state.tables and state.grants.get((role, table))]
    if reached:
        yield Step(f"REVOKE ALL ON {', '.join(reached)} FROM {quoted(role)}", "they are other services'")


def _state(connection: sa.Connection, roles: list[str], tables: list[str]) -> State:
    schema = quoted(str(connection.exec_driver_sql("SELECT current_schema()").scalar_one()))
    state = State(schema, set(connection.execute(_EXISTING, {"names": tables}).scalars()))
    there = sorted(state.tables)
    state.roles = {name: bool(superuser) for name, superuser in connection.execute(_ROLES, {"names": roles})}
    for table, sequence in connection.execute(_SEQUENCES, {"names": there}):
        state.sequences.setdefault(table, []).append(sequence)
    numbered = [each for found in state.sequences.values() for each in found]
    for name, role, right in connection.execute(_GRANTS, {"names": [*there, *numbered]}):
        state.grants.setdefault((role, name), set()).add(right)
    state.entering = {
        role for role in state.roles if connection.execute(_ENTERS, {"role": role}).scalar_one()
    }
    return state
