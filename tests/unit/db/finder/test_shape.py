"""The index that a statement would need, read off the statement."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa

from tenfold.db.finder.plans import Scan, scans
from tenfold.db.finder.shape import Index, wanted

metadata = sa.MetaData()
t = sa.Table(
    "t",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    *(sa.Column(name, sa.Integer) for name in "abcdef"),
    sa.Index("t_a", "a", "b"),
    sa.UniqueConstraint("f"),
)
u = sa.Table("u", metadata, sa.Column("id", sa.Integer, primary_key=True), sa.Column("t_id", sa.Integer))
c = t.c
bind = sa.bindparam


@pytest.mark.parametrize(
    ("statement", "columns"),
    [
        (sa.select(t).where(c.c == bind("x")), ("c",)),
        (sa.select(t).where(c.c == 1, c.d > 2, c.e == 3), ("c", "e", "d")),  # equality first, then one range
        (sa.select(t).where(c.c > 1, c.d < 2), ("c",)),  # a second range cannot be looked up
        (sa.select(t).where(c.c == 1).order_by(c.d.desc()), ("c", "d")),
        (sa.select(t).where(c.c.in_([1, 2])), ("c",)),
        (sa.select(t).where(c.c.is_(None)), ("c",)),
        (sa.select(t).where(sa.and_(c.c == 1, sa.or_(c.d == 1, c.e == 2))), ("c",)),
        (sa.update(t).where(c.d == 1).values(e=2), ("d",)),
        (sa.delete(t).where(c.e == 1), ("e",)),
        (sa.select(t).where(c.a == 1), None),  # there is one
        (sa.select(t).where(c.id == 1), None),
        (sa.select(t).where(c.f == 1), None),
        (sa.select(t), None),
        (sa.select(t).where(c.c == c.d), None),  # both sides of the same row
        (
            sa.select(t).where(sa.func.abs(c.c) == 1),
            None,
        ),  # an index on the column does not serve a function of it
        (sa.text("SELECT * FROM t WHERE c = 1"), None),
    ],
)
def test_the_index_follows_from_conditions_and_order(statement: Any, columns: tuple[str, ...] | None) -> None:
    found = wanted(statement, "t")
    assert (found.columns if found else None) == columns


def test_a_join_asks_for_the_index_on_the_side_that_is_scanned() -> None:
    statement = sa.select(t).join(u, u.c.t_id == c.id).where(c.id == bind("x"))
    assert wanted(statement, "t") is None


def test_names_stay_below_the_servers_limit() -> None:
    assert len(Index("a" * 60, ("b" * 60,)).name) == 63


def test_each_planners_answer_is_understood() -> None:
    assert scans("sqlite", [(2, 0, 0, "SCAN t"), (3, 0, 0, "SEARCH u USING INDEX x (a=?)")]) == [
        Scan("t", None)
    ]
    assert scans("sqlite", [(2, 0, 0, "SCAN t USING COVERING INDEX x"), (3, 0, 0, "SCAN CONSTANT ROW")]) == []
    plan = '[{"Plan":{"Node Type":"Sort","Plans":[{"Node Type":"Seq Scan","Relation Name":"t","Filter":"(a = 1)","Plan Rows":7}]}}]'
    assert scans("postgresql", [(plan,)]) == [Scan("t", 7)]
    assert scans("postgresql", [('[{"Plan":{"Node Type":"Seq Scan","Relation Name":"t"}}]',)]) == []
    table = '{"query_block":{"table":{"table_name":"t","access_type":"ALL","rows":9}}}'
    assert scans("mysql", [(table,)]) == [Scan("t", 9)]
    assert scans("mysql", [(table.replace("ALL", "ref"),)]) == []
