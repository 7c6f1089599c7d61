"""Paths find their endpoints."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenfold.errors import BadRequest, DeclarationError, UriTooLong
from tenfold.http.router import Router


def router(*templates: str) -> Router[str]:
    made: Router[str] = Router()
    for template in templates:
        made.add(template, "GET", template)
    return made


def found(made: Router[str], raw: str) -> tuple[str, tuple[str, ...]] | None:
    from urllib.parse import unquote

    path = unquote(raw)
    if path in made.static:
        return made.static[path]["GET"], ()
    result = made.find(path, raw.encode())
    return None if result is None else (result[0]["GET"], result[1])


ROUTES = router(
    "/",
    "/a",
    "/a/b",
    "/{x}",
    "/a/{x}",
    "/a/{x}/c",
    "/{x}/d",
    "/files/{rest:path}",
    "/files/{x}/meta",
    "/é/{x}",
)


@pytest.mark.parametrize(
    ("path", "template", "values"),
    [
        ("/", "/", ()),
        ("/a", "/a", ()),
        ("/a/b", "/a/b", ()),
        ("/z", "/{x}", ("z",)),
        ("/a/z", "/a/{x}", ("z",)),
        ("/a/b/c", "/a/{x}/c", ("b",)),
        ("/a/d", "/a/{x}", ("d",)),
        ("/z/d", "/{x}/d", ("z",)),
        ("/files/a/b/c", "/files/{rest:path}", ("a/b/c",)),
        ("/files/a/meta", "/files/{x}/meta", ("a",)),
        ("/files/", "/files/{rest:path}", ("",)),
        ("/q%2Fb", "/{x}", ("q/b",)),
        ("/a/%20%C3%A9", "/a/{x}", (" é",)),
        ("/%61/b", "/a/b", ()),
        ("/a/b%2Fc", "/a/{x}", ("b/c",)),
    ],
)
def test_a_path_finds_its_most_particular_template(path: str, template: str, values: tuple[str, ...]) -> None:
    assert found(ROUTES, path) == (template, values)


@pytest.mark.parametrize("path", ["//", "/a/", "/a//c", "/z/e", "/a/b/c/d", "", "/a/b/e"])
def test_a_path_that_fits_no_template_is_not_found(path: str) -> None:
    assert found(ROUTES, path) is None


@pytest.mark.parametrize("raw", ["/a/%ff", "/a/%00", "/%c3%28"])
def test_text_that_is_not_utf8_is_a_bad_request(raw: str) -> None:
    with pytest.raises(BadRequest, match="The path"):
        found(ROUTES, raw)


def test_a_path_that_is_too_long_is_refused() -> None:
    with pytest.raises(UriTooLong):
        found(ROUTES, "/" + "x" * 8200)


def test_two_operations_cannot_have_the_same_path_and_method() -> None:
    with pytest.raises(DeclarationError, match="served by another operation"):
        router("/a/{x}", "/a/{y}")


@given(st.lists(st.sampled_from(["a", "b", "{x}"]), min_size=1, max_size=4), st.text("ab/", max_size=8))
def test_a_template_is_found_exactly_when_it_matches(segments: list[str], path: str) -> None:
    names = iter("wxyz")
    template = "".join("/" + (f"{{{next(names)}}}" if s == "{x}" else s) for s in segments)
    parts = ("/" + path).split("/")[1:]
    matches = len(parts) == len(segments) and all(
        (s == "{x}" and p) or s == p for s, p in zip(segments, parts, strict=False)
    )
    assert (found(router(template), "/" + path) is not None) == matches
