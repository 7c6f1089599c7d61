"""What planners answer, as steps without values. The documents are those of the servers, shortened."""

from __future__ import annotations

from typing import Any

import msgspec

from tenfold.db.finder.plans import Step, steps

POSTGRESQL = [{"Plan": {
    "Node Type": "Hash Join", "Plan Rows": 1200, "Total Cost": 310.5, "Hash Cond": "(o.customer_id = c.id)", "Plans": [
        {"Node Type": "Seq Scan", "Relation Name": "orders", "Plan Rows": 5000, "Total Cost": 150.25,
         "Filter": "((note = 'it''s s3cret'::text) AND (placed > 4990) AND (x1 = ANY ('{7,8}'::integer[])))"},
        {"Node Type": "Index Scan", "Relation Name": "customers", "Index Name": "customers_pkey", "Plan Rows": 1,
         "Total Cost": 8.3, "Index Cond": "(id = 4711)"},
    ]}}]  # fmt: skip
MYSQL = {"query_block": {"select_id": 1, "ordering_operation": {"using_filesort": True, "nested_loop": [
    {"table": {"table_name": "orders", "access_type": "ALL", "rows_examined_per_scan": 5000,
               "attached_condition": "(`orders`.`note` = 's3cret')"}},
    {"table": {"table_name": "customers", "access_type": "eq_ref", "key": "PRIMARY", "rows_examined_per_scan": 1}},
]}}}  # fmt: skip
MARIADB = {"query_block": {"select_id": 1, "nested_loop": [{"read_sorted_file": {"filesort": {
    "sort_key": "orders.placed", "table": {"table_name": "orders", "access_type": "ref", "key": "ix", "rows": 12}}}}]}}  # fmt: skip


def of(dialect: str, document: Any) -> list[Step]:
    return steps(dialect, [(msgspec.json.encode(document).decode(),)])


def test_a_plan_of_postgresql_keeps_its_shape_and_loses_its_values() -> None:
    join, scan, index = of("postgresql", POSTGRESQL)
    assert join == Step(0, "Hash Join; Hash Cond: (o.customer_id = c.id); about 1,200 rows, cost 310")
    assert (scan.depth, scan.scans) == (1, "orders")
    assert "(note = ?::text) AND (placed > ?) AND (x1 = ANY (?::integer[]))" in scan.text
    assert (
        index.text
        == "Index Scan on customers using customers_pkey; Index Cond: (id = ?); about 1 rows, cost 8"
    )


def test_plans_of_mysql_and_mariadb_name_tables_how_they_are_read_and_what_is_sorted() -> None:
    assert of("mysql", MYSQL) == [
        Step(0, "Ordering operation"),
        Step(1, "Read all of orders; about 5,000 rows", "orders"),
        Step(1, "Look up one row of customers using PRIMARY; about 1 rows"),
    ]
    assert of("mysql", MARIADB) == [Step(0, "Filesort"), Step(1, "Look up in orders using ix; about 12 rows")]


def test_a_plan_of_sqlite_is_a_tree_by_its_numbers() -> None:
    rows = [
        (2, 0, 0, "CO-ROUTINE both"), (4, 2, 0, "SCAN a"), (9, 0, 0, "SCAN b USING COVERING INDEX b_x"),
        (12, 0, 0, "SEARCH a USING INDEX a_o (o=?)"),
    ]  # fmt: skip
    assert [(step.depth, step.scans) for step in steps("sqlite", rows)] == [
        (0, ""),
        (1, "a"),
        (0, ""),
        (0, ""),
    ]
