"""One document of several."""

from __future__ import annotations

from typing import Any

import pytest

from tenfold.gateway.documents import DocumentConflict, Source, merged


def document(paths: dict[str, Any], **components: Any) -> dict[str, Any]:
    return {"openapi": "3.1.1", "info": {}, "paths": paths, "components": components}


def answers(schema: str, id_: str = "") -> dict[str, Any]:
    content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
    return {"get": {"operationId": id_ or schema, "responses": {"200": {"content": content}}}}


def source(service: str, said: dict[str, Any], prefix: str = "") -> Source:
    return Source(service, said, lambda path: [prefix + path])


def both(one: dict[str, Any], two: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    return merged("shop", "1", [source("orders", one), source("catalog", two, prefix)])


TEXT, NUMBER = {"type": "string"}, {"type": "integer"}


def test_paths_stand_where_the_routes_have_them() -> None:
    said = both(document({"/orders": answers("A")}), document({"/": answers("B")}), "/catalog")
    assert list(said["paths"]) == ["/catalog/", "/orders"]


def test_what_no_route_leads_to_is_left_out() -> None:
    hidden = Source("orders", document({"/inside": answers("A")}), lambda _: [])
    assert merged("shop", "1", [hidden])["paths"] == {}


def test_a_schema_that_is_the_same_is_shared() -> None:
    said = both(
        document({"/a": answers("Money", "a")}, schemas={"Money": TEXT}),
        document({"/b": answers("Money", "b")}, schemas={"Money": TEXT}),
    )
    assert said["components"]["schemas"] == {"Money": TEXT}


def test_schemas_that_differ_keep_apart_with_all_that_refers_to_them() -> None:
    line = {"properties": {"price": {"$ref": "#/components/schemas/Money"}}}
    said = both(
        document({"/a": answers("Line", "a")}, schemas={"Money": TEXT, "Line": line}),
        document({"/b": answers("Line", "b")}, schemas={"Money": NUMBER, "Line": line}),
    )
    schemas = said["components"]["schemas"]
    assert (schemas["Money"], schemas["catalog.Money"]) == (TEXT, NUMBER)
    assert schemas["catalog.Line"]["properties"]["price"]["$ref"] == "#/components/schemas/catalog.Money"
    content = said["paths"]["/b"]["get"]["responses"]["200"]["content"]["application/json"]
    assert content["schema"]["$ref"] == "#/components/schemas/catalog.Line"


@pytest.mark.parametrize(
    ("one", "two", "sentence"),
    [
        (
            document({"/a": answers("A")}),
            document({"/a": answers("B")}),
            "orders and catalog both have GET /a",
        ),
        (document({"/a": answers("A")}), document({"/b": answers("A")}), "an operation with the id 'A'"),
        (
            document({}, securitySchemes={"bearer": {"type": "http"}}),
            document({}, securitySchemes={"bearer": {"type": "apiKey"}}),
            "orders and catalog have different security schemes 'bearer'",
        ),
        (
            document({}),
            {"openapi": "3.0.3", "paths": {}},
            "orders describes itself in OpenAPI 3.1.1, and catalog in 3.0.3",
        ),
        (document({}), {"hello": 1}, "what catalog has at /openapi.json is no OpenAPI document"),
        (document({}), document({"/a": 7}), "has a path or component that is no object"),
    ],
)
def test_what_does_not_fit_together_is_named(one: dict[str, Any], two: dict[str, Any], sentence: str) -> None:
    with pytest.raises(DocumentConflict, match=sentence):
        both(one, two)
