"""Other ASGI applications below a path of this one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any, NamedTuple

from tenfold.errors import DeclarationError
from tenfold.http.access import Authentication
from tenfold.http.operation import UNSET
from tenfold.http.request import Request
from tenfold.security.policy import as_policy

if TYPE_CHECKING:
    from tenfold.security.authenticator import Authenticator

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]


class Mount(NamedTuple):
    """An ASGI application below ``path``; ``auth`` is asked before anything reaches it."""

    path: str
    app: ASGIApp
    auth: Any


class Mounts:
    """Every mount of an app; the longest path that fits is taken."""

    def __init__(self, mounts: list[Mount], authenticator: Authenticator | None) -> None:
        self._mounts = sorted(mounts, key=lambda mount: -len(mount.path))
        self._auth = None if authenticator is None else Authentication(authenticator)
        for mount in mounts:
            if mount.auth is UNSET:
                raise DeclarationError(
                    "it does not say who may use it.", where=f"mount {mount.path}", remedy="Give it auth=."
                )
            if authenticator is None and not as_policy(mount.auth).anonymous_ok:
                raise DeclarationError(
                    "it is not public, but the app has no authenticator.", where=f"mount {mount.path}"
                )

    def __bool__(self) -> bool:
        return bool(self._mounts)

    def find(self, path: str) -> Mount | None:
        """The mount that ``path`` is, or is below of."""
        for mount in self._mounts:
            if path == mount.path or path.startswith(mount.path + "/"):
                return mount
        return None

    async def serve(self, mount: Mount, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand the request over. Raises Unauthorized, Forbidden and what the authenticator raises."""
        policy = as_policy(mount.auth)
        if not policy.anonymous_ok:
            raw = scope["headers"]
            request = Request(
                scope.get("method", "WEBSOCKET"), scope["path"], (), scope["query_string"], raw, dict(raw),
                receive, scope,
            )  # fmt: skip
            principal = await self._auth.authenticate(request) if self._auth is not None else None
            await policy.check_async(principal, request)
        await mount.app({**scope, "root_path": scope.get("root_path", "") + mount.path}, receive, send)
