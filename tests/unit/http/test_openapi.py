"""The OpenAPI document: valid, deterministic, and true to what the endpoints do."""

from __future__ import annotations

import re
from typing import Annotated, Any

import msgspec
import pytest
from msgspec import Meta
from sample_api import Line, TokenAuth, make_app
from schemathesis.specs.openapi import definitions

from tenfold.errors import DeclarationError
from tenfold.http.asgi import HttpApp
from tenfold.http.docs import Docs
from tenfold.http.explorer import pages
from tenfold.http.openapi import encode
from tenfold.http.operation import Operation, Policies
from tenfold.http.params import Header
from tenfold.http.reply import Redirect, Reply
from tenfold.security.policy import public

APP, DOCS = make_app()
DOC: dict[str, Any] = msgspec.json.decode(encode(DOCS.document))


def member(route: str) -> dict[str, Any]:
    method, path = route.split()
    return DOC["paths"][path][method.lower()]


def component(name: str) -> dict[str, Any]:
    return DOC["components"]["schemas"][name]


def parameters(route: str) -> dict[str, dict[str, Any]]:
    return {p["name"]: p for p in member(route)["parameters"]}


def test_the_document_is_valid_openapi_31() -> None:
    assert [error.message for error in definitions.OPENAPI_31_VALIDATOR.iter_errors(DOC)] == []
    broken = {**DOC, "paths": {"/x": {"get": {"parameters": [{"in": "nowhere"}]}}}}
    assert not definitions.OPENAPI_31_VALIDATOR.is_valid(broken)


def test_every_reference_leads_somewhere_and_every_component_is_used() -> None:
    refs = set(re.findall(r'"#/components/schemas/([^"]+)"', encode(DOC).decode()))
    assert refs == set(DOC["components"]["schemas"])


def test_the_same_operations_give_the_same_bytes() -> None:
    assert encode(make_app()[1].document) == encode(DOCS.document)
    assert list(DOC["components"]["schemas"]) == sorted(DOC["components"]["schemas"])


def test_names_and_texts_come_from_the_function() -> None:
    listing = member("GET /orders")
    assert listing["operationId"] == "orders.list_orders"
    assert (listing["summary"], listing["description"]) == ("List orders", "Newest first, fifty on a page.")
    assert listing["tags"] == ["orders"]
    assert member("DELETE /orders/{order_id}")["summary"] == "Cancel order"
    assert member("DELETE /orders/{order_id}")["deprecated"] is True


def test_a_first_line_that_is_too_long_is_the_description() -> None:
    searching = member("GET /search")
    assert searching["summary"] == "Search"
    assert searching["description"].startswith("Search for orders by their text")


def test_hidden_operations_and_the_documentation_itself_are_left_out() -> None:
    assert not {"/secret", "/docs", "/openapi.json"} & DOC["paths"].keys()


def test_parameters_carry_constraints_defaults_and_no_null() -> None:
    found = parameters("GET /orders")
    assert found["page"] == {
        "name": "page",
        "in": "query",
        "required": False,
        "description": "From 1.",
        "schema": {
            "description": "From 1.",
            "type": "integer",
            "minimum": 1,
            "default": 1,
            "format": "int64",
        },
    }
    assert found["state"]["schema"] == {"enum": ["placed", "sent"], "type": "string"}
    assert found["tag"]["schema"] == {"type": "array", "items": {"type": "string"}, "default": []}
    assert found["since"]["schema"] == {"type": "string", "format": "date"}
    assert parameters("GET /orders/{order_id}")["order_id"]["required"] is True


def test_a_model_in_the_query_is_one_parameter_per_field() -> None:
    found = parameters("GET /search")
    assert set(found) == {"text", "max_price", "Accept-Language"}
    assert found["max_price"]["schema"] == {"type": "number", "minimum": 0}
    assert found["Accept-Language"]["in"] == "header"
    assert parameters("POST /payments")["theme"]["in"] == "cookie"


def test_bodies_that_reject_unknown_fields_are_closed_all_the_way_down() -> None:
    for name in ("NewOrder", "Line", "Card", "Voucher", "AddressBook", "Address"):
        assert component(name)["additionalProperties"] is False, name
    assert "additionalProperties" not in component("Tree")  # unknown_fields="ignore"
    assert "additionalProperties" not in component("Page")  # only ever answered
    assert component("NewOrder")["properties"]["labels"]["additionalProperties"] == {
        "type": "integer",
        "format": "int64",
    }


def test_text_forms_of_types_are_described() -> None:
    order = component("Order")["properties"]
    assert order["placed_at"] == {"type": "string", "format": "date-time"}
    assert re.search(order["took"]["pattern"], "PT1.5S")
    text, number = order["total"]["anyOf"]
    assert re.search(text["pattern"], "-9.99")
    assert not re.search(text["pattern"], "nine")
    assert number == {"type": "number"}
    assert component("Line")["properties"]["quantity"]["examples"] == [2]


def test_unions_forms_and_files() -> None:
    payment = member("POST /payments")["requestBody"]["content"]["application/json"]["schema"]
    assert payment["discriminator"]["mapping"]["card"] == "#/components/schemas/Card"
    assert list(member("POST /sign-in")["requestBody"]["content"]) == [
        "application/x-www-form-urlencoded",
        "multipart/form-data",
    ]
    upload = member("POST /pictures")["requestBody"]["content"]
    assert list(upload) == ["multipart/form-data"]
    schema = upload["multipart/form-data"]["schema"]
    assert schema["properties"]["picture"] == {"type": "string", "format": "binary"}
    assert schema["required"] == ["picture", "title"]


@pytest.mark.parametrize(
    ("route", "statuses"),
    [
        ("GET /orders", "200 400 414 422 431 503 504"),
        ("POST /orders", "201 400 401 403 408 409 413 414 415 422 431 503 504"),
        ("GET /orders/{order_id}", "200 304 400 404 414 422 431 503 504"),
        ("DELETE /orders/{order_id}", "204 400 404 409 414 422 431 503 504"),
        ("GET /old", "303 400 414 431 503 504"),
    ],
)
def test_the_statuses_are_those_that_can_occur(route: str, statuses: str) -> None:
    assert list(member(route)["responses"]) == statuses.split()


def test_problems_have_their_own_media_type_and_schema() -> None:
    responses = member("POST /orders")["responses"]
    assert list(responses["422"]["content"]) == ["application/problem+json"]
    assert responses["422"]["content"]["application/problem+json"]["schema"]["$ref"].endswith(
        "InvalidInputDetails"
    )
    assert "WWW-Authenticate" in responses["401"]["headers"]


def test_idempotent_operations_have_the_key() -> None:
    operation = Operation(
        _create, service="s", method="POST", path="/x", policies=Policies(auth=public, idempotent="required")
    )
    app = HttpApp([operation], idempotency=lambda service: None)
    made = Docs(app.endpoints, title="x").document["paths"]["/x"]["post"]
    assert [(p["name"], p["required"]) for p in made["parameters"]] == [("Idempotency-Key", True)]
    assert {"409", "422"} <= made["responses"].keys()


async def _create() -> None: ...


@pytest.mark.parametrize("wanted", [True, "required"])
def test_a_key_that_the_handler_takes_too_is_listed_once(wanted: Any) -> None:
    async def create(idempotency_key: Annotated[str, Header(), Meta(min_length=8)]) -> None: ...

    policies = Policies(auth=public, idempotent=wanted)
    operation = Operation(create, service="s", method="POST", path="/x", policies=policies)
    app = HttpApp([operation], idempotency=lambda service: None)
    [listed] = Docs(app.endpoints, title="x").document["paths"]["/x"]["post"]["parameters"]
    assert (listed["name"], listed["required"]) == ("Idempotency-Key", True)
    assert (listed["schema"]["minLength"], listed["schema"]["maxLength"]) == (8, 255)


def test_protected_operations_name_the_schemes() -> None:
    assert member("POST /orders")["security"] == [{"bearer": []}]
    assert member("POST /orders")["x-access"] == "Customer"
    assert "security" not in member("GET /orders")
    assert DOC["components"]["securitySchemes"] == TokenAuth().schemes()


async def _union() -> Reply[Line] | Redirect: ...  # type: ignore[empty-body]


async def _maybe() -> Line | None: ...


async def _nothing() -> Reply[None]: ...  # type: ignore[empty-body]


async def _untyped():  # type: ignore[no-untyped-def]
    ...


async def _custom() -> list[object]: ...  # type: ignore[empty-body]


@pytest.mark.parametrize(
    ("fn", "schema"),
    [
        (_union, {"$ref": "#/components/schemas/Line"}),
        (_maybe, {"anyOf": [{"$ref": "#/components/schemas/Line"}, {"type": "null"}]}),
        (_nothing, {"type": "null"}),
        (_untyped, {}),
        (_custom, {"type": "array", "items": {"title": "object"}}),
    ],
)
def test_the_body_of_an_answer_is_what_the_handler_returns(fn: Any, schema: dict[str, Any]) -> None:
    operation = Operation(fn, service="s", method="GET", path="/x", policies=Policies(auth=public))
    made = Docs(HttpApp([operation]).endpoints, title="x").document["paths"]["/x"]["get"]
    assert made["responses"]["200"]["content"] == {"application/json": {"schema": schema}}


def test_a_stream_of_events_says_so() -> None:
    assert list(member("GET /orders/events")["responses"]["200"]["content"]) == ["text/event-stream"]


class ProblemDetails(msgspec.Struct):
    a: int


async def _clash() -> ProblemDetails:
    return ProblemDetails(1)


def test_a_type_that_takes_a_reserved_name_is_found() -> None:
    operation = Operation(_clash, service="s", method="GET", path="/x", policies=Policies(auth=public))
    with pytest.raises(DeclarationError, match="ProblemDetails"):
        _ = Docs(HttpApp([operation]).endpoints, title="x").document


# ── the explorer ──────────────────────────────────────────────────────────────────────────────────

PAGES = pages({"/openapi.json": encode(DOC)})


def test_the_explorer_is_small_and_needs_nobody_else() -> None:
    assets = {path: page.body or b"" for path, page in PAGES.items() if path != "/openapi.json"}
    assert sum(map(len, assets.values())) <= 60_000
    for path, content in assets.items():
        text = content.decode().replace("http://www.w3.org/2000/svg", "")
        if path != "/docs/schema.js":  # its examples name example.com
            assert "http://" not in text, path
            assert "https://" not in text, path
        assert "innerHTML" not in text, path


def test_the_explorer_runs_under_a_strict_policy() -> None:
    html = (PAGES["/docs"].body or b"").decode()
    assert re.findall(r"<script(?![^>]*\bsrc=)", html) == []
    assert " style=" not in html
    assert not re.search(r"\son\w+=", html)
    policy = dict(PAGES["/docs"].headers)[b"content-security-policy"].decode()
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


def test_every_file_that_the_page_asks_for_exists() -> None:
    html = (PAGES["/docs"].body or b"").decode()
    wanted = {f"/{name}" for name in re.findall(r'(?:src|href)="(docs/[^"]+|openapi\.json)"', html)}
    scripts = b"".join(page.body or b"" for path, page in PAGES.items() if path.endswith(".js")).decode()
    wanted |= {f"/docs/{name}" for name in re.findall(r'from "\./([^"]+)"', scripts)}
    assert wanted <= PAGES.keys()
    assert len(wanted) > 5
