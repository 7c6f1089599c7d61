"""From what a database grants to what it is to grant: the statements, and that no more of them follow."""

from __future__ import annotations

import pytest

from tenfold.db.backends._postgresql_roles import ALL, PUBLIC, State, steps
from tenfold.db.ownership import role_of
from tenfold.errors import ConfigError

OWN = {"shop_orders": ["orders", "lines"], "shop_catalog": ["products"]}
READ = {"shop_orders": ["alembic_version_orders"], "shop_catalog": ["alembic_version_catalog"]}
SHARED = ["tenfold_message"]
TABLES = {"orders", "lines", "products", "alembic_version_orders", "tenfold_message"}


def settled() -> State:
    """A database in which all is as it is to be."""
    state = State("public", set(TABLES), {"shop_orders": False, "shop_catalog": False}, entering=set(OWN))
    for role, tables in OWN.items():
        for table in (*tables, *SHARED):
            state.grants[role, table] = set(ALL)
    state.grants["shop_orders", "alembic_version_orders"] = {"SELECT"}
    state.sequences["orders"] = ["orders_id_seq"]
    state.grants["shop_orders", "orders_id_seq"] = {"USAGE", "SELECT"}
    return state


def planned(state: State) -> list[str]:
    return [step.sql for step in steps(state, OWN, READ, SHARED)]


def test_where_all_is_as_it_is_to_be_nothing_is_planned() -> None:
    assert planned(settled()) == []


def test_from_nothing_roles_are_made_and_granted_their_own() -> None:
    state = State("public", set(TABLES), sequences={"orders": ["orders_id_seq"]})
    options = "LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOINHERIT NOBYPASSRLS PASSWORD {password}"
    assert planned(state) == [
        f"CREATE ROLE shop_orders {options}",
        "GRANT USAGE ON SCHEMA public TO shop_orders",
        f"CREATE ROLE shop_catalog {options}",
        "GRANT USAGE ON SCHEMA public TO shop_catalog",
        "GRANT SELECT, INSERT, UPDATE, DELETE ON orders, lines, tenfold_message TO shop_orders",
        "GRANT SELECT ON alembic_version_orders TO shop_orders",
        "GRANT USAGE, SELECT ON SEQUENCE orders_id_seq TO shop_orders",
        "GRANT SELECT, INSERT, UPDATE, DELETE ON products, tenfold_message TO shop_catalog",
    ]


def test_what_reaches_too_far_is_taken_back() -> None:
    state = settled()
    state.grants["shop_catalog", "orders"] = {"SELECT"}
    state.grants[PUBLIC, "lines"] = {"SELECT"}
    state.roles["shop_orders"] = True
    assert planned(state) == [
        "ALTER ROLE shop_orders NOSUPERUSER",
        "REVOKE ALL ON lines FROM PUBLIC",
        "REVOKE ALL ON orders FROM shop_catalog",
    ]


def test_what_is_lacking_is_granted_and_no_more() -> None:
    state = settled()
    state.grants["shop_catalog", "products"] = {"SELECT", "DELETE"}
    del state.grants["shop_orders", "orders_id_seq"]
    assert planned(state) == [
        "GRANT USAGE, SELECT ON SEQUENCE orders_id_seq TO shop_orders",
        "GRANT INSERT, UPDATE ON products TO shop_catalog",
    ]


def test_roles_have_names_that_sql_takes() -> None:
    assert role_of("shop", "order-book") == "shop_order_book"
    with pytest.raises(ConfigError, match="longer than 63 characters"):
        role_of("shop", "x" * 60)
