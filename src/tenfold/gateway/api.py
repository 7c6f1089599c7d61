"""The API document of everything behind the gateway, made of those of the services, and the explorer that shows it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import TYPE_CHECKING, Any, Final

from tenfold.errors import BadAnswer, NotFound
from tenfold.gateway.documents import DocumentConflict, Source, Tree, merged
from tenfold.http.explorer import pages
from tenfold.http.openapi import encode
from tenfold.http.operation import Operation, Policies
from tenfold.http.problems import problem_with
from tenfold.http.reply import Response
from tenfold.security.policy import public

if TYPE_CHECKING:
    from tenfold._core.clock import Clock
    from tenfold.client.answer import Answer
    from tenfold.gateway.routes import Route, Routes

PATH: Final = "/openapi.json"
FRESH_S: Final = 10.0
"""How long a document is shown before the services are asked again."""
TIMEOUT_S: Final = 5.0

Fetch = Callable[[str, str, float], Coroutine[Any, Any, "Answer"]]
"""Service, path and seconds. Raises a Problem."""


class Api:
    """The merged document, made again when somebody asks and it is not fresh."""

    def __init__(self, routes: Routes, fetch: Fetch, clock: Clock, *, title: str, version: str) -> None:
        self._routes, self._fetch, self._clock = routes, fetch, clock
        self._title, self._version = title, version
        self._made: tuple[float, Tree] | None = None
        self._turn = asyncio.Lock()

    async def document(self) -> Tree:
        """Raises a Problem (502, 503, 504) that names the service that does not answer, or those that conflict."""
        async with self._turn:
            now = self._clock.monotonic()
            if self._made is None or now - self._made[0] >= FRESH_S:
                self._made = now, await self._make()
            return self._made[1]

    async def _make(self) -> Tree:
        services = list(dict.fromkeys(route.options.service for route in self._routes.ordered))
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._fetch(name, PATH, TIMEOUT_S)) for name in services]
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None  # one that does not answer is enough to tell
        try:
            sources = [
                Source(name, _tree(name, task.result()), self._outer(name))
                for name, task in zip(services, tasks, strict=True)
            ]
            return merged(self._title, self._version, sources)
        except DocumentConflict as conflict:
            said = f"The API document cannot be made: {conflict}"
            raise problem_with(502, said, {"Retry-After": "60"}) from None

    def _outer(self, service: str) -> Callable[[str], Iterable[str]]:
        """The public paths of a path of the service, of those routes that lead to it."""
        routes = [route for route in self._routes.ordered if route.options.service == service]
        return lambda path: list(dict.fromkeys(filter(None, (self._shown(route, path) for route in routes))))

    def _shown(self, route: Route, path: str) -> str:
        """Empty where a more specific route takes the path."""
        outer = route.outer(path)
        taken = next((each for each in self._routes.ordered if each.takes(route.host, outer)), None)
        return outer if taken is None or taken.options.service == route.options.service else ""


def operations(api: Api) -> list[Operation[..., Any]]:
    """Public, and hidden from the document itself."""
    shown = pages({})

    async def openapi_json() -> Response:
        return pages({PATH: encode(await api.document())})[PATH]

    async def docs() -> Response:
        return shown["/docs"]

    async def docs_file(name: str) -> Response:
        page = shown.get(f"/docs/{name}")
        if page is None:
            raise NotFound(f"The explorer has no file {name!r}.")
        return page

    return [_operation(PATH, openapi_json), _operation("/docs", docs), _operation("/docs/{name}", docs_file)]


def _operation(path: str, fn: Callable[..., Awaitable[Response]]) -> Operation[..., Response]:
    policies = Policies(auth=public, hidden=True, etag=True)
    return Operation(fn, service="gateway", method="GET", path=path, policies=policies)


def _tree(service: str, answer: Answer) -> Tree:
    if not answer.ok:
        raise DocumentConflict(
            f"{service} answered {answer.status} when asked for {PATH} (http.docs turns it on)."
        )
    try:
        found: Tree = answer.json(dict[str, Any])
    except BadAnswer:
        raise DocumentConflict(f"what {service} has at {PATH} is no JSON object.") from None
    return found
