"""``/openapi.json``, ``/asyncapi.json`` and the explorer at ``/docs``, as operations like any other."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from tenfold.errors import NotFound
from tenfold.http import asyncapi
from tenfold.http.access import policy_of
from tenfold.http.explorer import pages
from tenfold.http.openapi import Described, document, encode
from tenfold.http.operation import Operation, Policies
from tenfold.http.reply import Response
from tenfold.http.request import Request
from tenfold.security.policy import public

if TYPE_CHECKING:
    from tenfold.events.subscription import Subscription
    from tenfold.events.topic import Topic
    from tenfold.http.compiler import Endpoint
    from tenfold.security.authenticator import Authenticator


class Docs:
    """The documentation of an app: ``for operation in docs.operations(): http_app.add(operation)``.

    ``endpoints`` is looked at when somebody asks for the first time, so it may still grow until then. ``broker`` is
    the URL of what carries the events of ``topics``, or empty.
    """

    def __init__(
        self,
        endpoints: Iterable[Endpoint],
        *,
        title: str,
        version: str = "0.1.0",
        description: str = "",
        authenticator: Authenticator | None = None,
        topics: Sequence[Topic[Any]] = (),
        subscriptions: Sequence[Subscription] = (),
        broker: str = "",
        prefix: str = "",
    ) -> None:
        self._endpoints = endpoints
        self._topics, self._subscriptions = topics, subscriptions
        self._broker, self._prefix = broker, prefix
        self._title, self._version, self._description = title, version, description
        self._authenticator = authenticator

    @cached_property
    def described(self) -> list[Described]:
        """The operations with what surrounds them, hidden ones included."""
        return [
            Described(
                each.operation, each.params, policy_of(each.operation, self._authenticator), each.limited
            )
            for each in self._endpoints
        ]

    @cached_property
    def document(self) -> dict[str, Any]:
        """The OpenAPI document as a tree."""
        return document(
            self.described,
            title=self._title,
            version=self._version,
            description=self._description,
            security=None if self._authenticator is None else self._authenticator.schemes(),
        )

    @cached_property
    def events(self) -> dict[str, Any]:
        """The AsyncAPI document as a tree."""
        return asyncapi.document(
            self._topics,
            self._subscriptions,
            title=self._title,
            version=self._version,
            description=self._description,
            url=self._broker,
            prefix=self._prefix,
        )

    @cached_property
    def _pages(self) -> dict[str, Response]:
        return pages({"/openapi.json": encode(self.document), "/asyncapi.json": encode(self.events)})

    def _mounted(self, root_path: str) -> Response:
        """The document of an app that another one mounts: its paths are below the mount point."""
        tree = {**self.document, "servers": [{"url": root_path}]}
        return pages({"/openapi.json": encode(tree)})["/openapi.json"]

    def operations(self) -> list[Operation[..., Any]]:
        """Public, and hidden from the document itself."""

        async def openapi_json(request: Request) -> Response:
            return self._mounted(request.root_path) if request.root_path else self._pages["/openapi.json"]

        async def asyncapi_json() -> Response:
            return self._pages["/asyncapi.json"]

        async def docs() -> Response:
            return self._pages["/docs"]

        async def docs_file(name: str) -> Response:
            page = self._pages.get(f"/docs/{name}")
            if page is None:
                raise NotFound(f"The explorer has no file {name!r}.")
            return page

        return [
            _operation("/openapi.json", openapi_json),
            _operation("/asyncapi.json", asyncapi_json),
            _operation("/docs", docs),
            _operation("/docs/{name}", docs_file),
        ]


def _operation(path: str, fn: Callable[..., Awaitable[Response]]) -> Operation[..., Response]:
    policies = Policies(auth=public, hidden=True, etag=True)
    return Operation(fn, service="docs", method="GET", path=path, policies=policies)
