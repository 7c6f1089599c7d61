"""Statements compile once, and their parameters are checked by name."""

from __future__ import annotations

import gc
import itertools
from typing import Any

import pytest
import sqlalchemy as sa

from support.orders_db import count_orders, order_by_id, orders
from tenfold import errors
from tenfold.db.backends._apsw_dbapi import ApswDialect
from tenfold.db.plan import PlanCache

numbers = itertools.count(1)
things = sa.Table(
    "things",
    sa.MetaData(),
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", sa.Text, default="unnamed"),
    sa.Column("number", sa.Integer, default=lambda: next(numbers)),
    sa.Column("shout", sa.Text, default=lambda c: c.get_current_parameters()["name"].upper()),
    sa.Column("touched", sa.Integer, onupdate=lambda: -1),
)


@pytest.fixture
def plans() -> PlanCache:
    return PlanCache(ApswDialect())


def test_a_prebuilt_statement_keeps_its_plan(plans: PlanCache) -> None:
    first, args = plans.bind(order_by_id, {"id": 1})
    second, others = plans.bind(order_by_id, {"id": 2})
    assert first is second
    assert (args, others) == ((1,), (2,))


def test_statements_built_alike_share_a_plan_but_not_their_literals(plans: PlanCache) -> None:
    def built(total: int, customers: int) -> Any:
        return sa.select(orders).where(orders.c.total > total).limit(customers)

    first, args = plans.bind(built(1, 10), {})
    second, others = plans.bind(built(2, 20), {})
    assert first is second
    assert args[0] == 1
    assert others[0] == 2
    assert sorted(args[1:]) != sorted(others[1:])


def test_a_plan_is_not_taken_for_that_of_a_statement_at_the_same_address(plans: PlanCache) -> None:
    for n in range(300):
        plan, args = plans.bind(
            sa.select(orders.c.id if n % 2 else orders.c.total).where(orders.c.id == n), {}
        )
        assert args == (n,)
        assert plan.sql.startswith("SELECT orders.id" if n % 2 else "SELECT orders.total")
    gc.collect()
    assert len(plans.latest) <= 2  # those that the compiled statements were compiled from


def test_a_generated_copy_of_a_statement_has_a_plan_of_its_own(plans: PlanCache) -> None:
    base = sa.select(orders)
    plans.bind(base, {})
    narrowed, args = plans.bind(base.where(orders.c.id == 5), {})
    assert "WHERE" in narrowed.sql
    assert args == (5,)


def test_an_insert_takes_the_columns_that_are_given(plans: PlanCache) -> None:
    statement = sa.insert(orders)
    both, args = plans.bind(statement, {"customer": "a", "total": 1})
    assert (both.sql, args) == ("INSERT INTO orders (customer, total) VALUES (?, ?)", ("a", 1))
    keyed, args = plans.bind(statement, {"id": 3, "customer": "a", "total": 1})
    assert (keyed.sql, args) == ("INSERT INTO orders (id, customer, total) VALUES (?, ?, ?)", (3, "a", 1))
    again, _ = plans.bind(statement, {"total": 1, "customer": "a"})
    assert again is both


def test_defaults_that_python_makes_are_made_per_execution(plans: PlanCache) -> None:
    statement = sa.insert(things)
    _, first = plans.bind(statement, {"name": "a"})
    _, second = plans.bind(statement, {"name": "a"})
    assert first[0] == second[0] == "a"
    assert second[1] == first[1] + 1
    assert first[2] == "A"
    _, given = plans.bind(statement, {"name": "b", "number": 0, "shout": "!"})
    assert given == ("b", 0, "!")
    update = sa.update(things).where(things.c.id == sa.bindparam("which"))
    plan, args = plans.bind(update, {"which": 1, "name": "z"})
    assert plan.sql == "UPDATE things SET name=?, touched=? WHERE things.id = ?"
    assert args == ("z", -1, 1)


def test_rows_inside_values_have_defaults_too(plans: PlanCache) -> None:
    _, args = plans.bind(
        sa.insert(things).values([{"name": "a", "shout": ""}, {"name": "b", "shout": ""}]), {}
    )
    assert args[0] == "a"
    assert "b" in args
    made = [a for a in args if isinstance(a, int)]
    assert len(made) == 2
    assert made[0] + 1 == made[1]


def test_in_over_a_list_is_expanded_per_number_of_values(plans: PlanCache) -> None:
    statement = sa.select(orders.c.id).where(orders.c.id.in_(sa.bindparam("ids", expanding=True)))
    two, args = plans.bind(statement, {"ids": [1, 2]})
    assert two.sql.endswith("IN (?, ?)")
    assert args == (1, 2)
    again, others = plans.bind(statement, {"ids": [3, 4]})
    assert again is two
    assert others == (3, 4)
    three, args = plans.bind(sa.select(orders.c.id).where(orders.c.id.in_([7, 8, 9])), {})
    assert three.sql.endswith("IN (?, ?, ?)")
    assert args == (7, 8, 9)
    none, args = plans.bind(statement, {"ids": []})
    assert none.sql.count("?") == len(args) == 0


def test_a_parameter_with_a_default_may_be_left_out(plans: PlanCache) -> None:
    statement = sa.select(orders).where(orders.c.total > sa.bindparam("least", 10))
    assert plans.bind(statement, {})[1] == (10,)
    assert plans.bind(statement, {"least": 3})[1] == (3,)
    assert plans.bind(statement, {})[1] == (10,)


def test_a_value_from_a_function_is_asked_for_every_time(plans: PlanCache) -> None:
    source = itertools.count()
    statement = sa.select(orders).where(orders.c.id == sa.bindparam("n", callable_=lambda: next(source)))
    assert [plans.bind(statement, {})[1] for _ in range(3)] == [(0,), (1,), (2,)]


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({}, "no value is given for 'id'"),
        ({"id": 1, "name": 2}, "it has no parameter 'name'"),
        ({"idd": 1}, "no value is given for 'id'; it has no parameter 'idd'. Did you mean 'id'?"),
    ],
)
def test_wrong_parameters_are_named(plans: PlanCache, params: dict[str, Any], said: str) -> None:
    for _ in range(2):
        with pytest.raises(errors.StatementError) as caught:
            plans.bind(order_by_id, params)
        assert said in str(caught.value)
        assert "SELECT orders.id" in str(caught.value)
    assert plans.bind(order_by_id, {"id": 1})[1] == (1,)


def test_unknown_columns_of_an_insert_are_named(plans: PlanCache) -> None:
    with pytest.raises(errors.StatementError, match="custmer"):
        plans.bind(sa.insert(orders), {"custmer": "a"})


def test_a_string_is_not_a_statement(plans: PlanCache) -> None:
    with pytest.raises(errors.StatementError, match=r"wrapped in sqlalchemy\.text"):
        plans.bind("SELECT 1", {})


def test_an_error_in_a_default_is_the_callers(plans: PlanCache) -> None:
    statement = sa.insert(things).values(shout=sa.literal("x"))
    plans.bind(statement, {"name": "a"})
    broken = sa.Table("broken", sa.MetaData(), sa.Column("id", sa.Integer, default=lambda: {}["absent"]))
    for _ in range(2):
        with pytest.raises(KeyError, match="absent"):
            plans.bind(sa.insert(broken), {})


def test_columns_go_by_their_key(plans: PlanCache) -> None:
    renamed = sa.Table("renamed", sa.MetaData(), sa.Column("user_name", sa.Text, key="name"))
    plan, _ = plans.bind(sa.select(renamed), {})
    assert plan.columns is not None
    assert [c.name for c in plan.columns] == ["name"]
    plan, _ = plans.bind(count_orders, {})
    assert plan.columns is not None
    assert plan.columns[0].python_type is int
