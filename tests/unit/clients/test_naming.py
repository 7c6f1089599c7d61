"""Identifiers from names of the wire."""

from __future__ import annotations

import pytest

from tenfold.clients import naming


@pytest.mark.parametrize(
    ("name", "snake", "camel", "pascal"),
    [
        ("per_page", "per_page", "perPage", "PerPage"),
        ("perPage", "per_page", "perPage", "PerPage"),
        ("X-Trace-Colour", "x_trace_colour", "xTraceColour", "XTraceColour"),
        ("HTTPStatus", "http_status", "httpStatus", "HTTPStatus"),
        ("sha256", "sha256", "sha256", "Sha256"),
        ("2nd", "_2_nd", "_2Nd", "_2Nd"),
        ("größe", "größe", "größe", "Größe"),
    ],
)
def test_names_are_idiomatic(name: str, snake: str, camel: str, pascal: str) -> None:
    assert (naming.snake(name), naming.camel(name), naming.pascal(name)) == (snake, camel, pascal)


def test_a_generic_type_is_named_for_what_is_in_it() -> None:
    assert naming.pascal("Page[Order]") == "OrderPage"
    assert naming.pascal("Pair[str, Page[Order]]") == "StrOrderPagePair"


def test_two_types_of_one_name_are_told_apart_by_their_modules() -> None:
    keys = [
        ("shop.inventory.Delivery", "Delivery"),
        ("lib.webhooks.Delivery", "Delivery"),
        ("Client", "Client"),
    ]
    assert naming.type_names(keys, {"Client"}) == {
        "shop.inventory.Delivery": "InventoryDelivery",
        "lib.webhooks.Delivery": "WebhooksDelivery",
        "Client": "ClientData",
    }


def test_members_of_an_enumeration_have_names_of_their_own() -> None:
    assert naming.members(["in-transit", "in transit", "2nd", ""]) == {
        "in-transit": "IN_TRANSIT",
        "in transit": "IN_TRANSIT_2",
        "2nd": "VALUE_2_ND",
        "": "VALUE",
    }
    assert naming.members([-1, 3]) == {-1: "VALUE_MINUS_1", 3: "VALUE_3"}
