"""Other ASGI applications below a path of this one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, NamedTuple, runtime_checkable
from typing import Protocol as TypingProtocol

from starlette.exceptions import HTTPException

from tenfold.errors import DeclarationError
from tenfold.http.access import Authentication
from tenfold.http.lifespan import Lifespan
from tenfold.http.operation import UNSET
from tenfold.http.problems import problem_with
from tenfold.http.request import Request
from tenfold.security.policy import as_policy

if TYPE_CHECKING:
    from tenfold.http.compiler import Endpoint
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


class Direct(NamedTuple):
    """What answers a request without ASGI, and what its state begins with."""

    endpoint: Endpoint
    state: dict[str, Any]


@runtime_checkable
class Answering(TypingProtocol):
    """A mounted application that answers by endpoints: a server that knows them need not go through ASGI."""

    def direct(self, method: str, path: str, by_name: Mapping[bytes, bytes]) -> Direct | None:
        """What answers; None for what has to go the ordinary way. ``path`` is ASCII, and was sent as it is."""
        ...


class Mounts:
    """Every mount of an app; the longest path that fits is taken."""

    def __init__(self, mounts: list[Mount], authenticator: Authenticator | None) -> None:
        mounts = [mount._replace(path=mount.path.rstrip("/")) for mount in mounts]
        self._mounts = sorted(mounts, key=lambda mount: -len(mount.path))
        self._lifespans = {m.path: Lifespan(m.app, f"mount {m.path or '/'}") for m in mounts}
        self._auth = None if authenticator is None else Authentication(authenticator)
        if len(self._lifespans) < len(mounts):
            paths = [mount.path or "/" for mount in mounts]
            twin = next(path for path in paths if paths.count(path) > 1)
            raise DeclarationError("two applications are mounted there.", where=f"mount {twin}")
        for mount in mounts:
            if mount.path and not mount.path.startswith("/"):
                raise DeclarationError("its path does not begin with a slash.", where=f"mount {mount.path}")
            if mount.auth is UNSET:
                raise DeclarationError(
                    "it does not say who may use it.",
                    where=f"mount {mount.path or '/'}",
                    remedy="Give it auth=.",
                )
            if authenticator is None and not as_policy(mount.auth).anonymous_ok:
                raise DeclarationError(
                    "it is not public, but the app has no authenticator.",
                    where=f"mount {mount.path or '/'}",
                )

    def __bool__(self) -> bool:
        return bool(self._mounts)

    def find(self, path: str) -> Mount | None:
        """The mount that ``path`` is, or is below of."""
        for mount in self._mounts:
            if path == mount.path or path.startswith(mount.path + "/"):
                return mount
        return None

    @property
    def answering(self) -> Answering | None:
        """The application that everybody may reach and that answers all paths, where it is the only one."""
        if (
            len(self._mounts) == 1
            and not self._mounts[0].path
            and as_policy(self._mounts[0].auth).anonymous_ok
        ):
            app = self._mounts[0].app
            return app if isinstance(app, Answering) else None
        return None

    async def start(self) -> None:
        """Start the mounted applications, in the order of declaration. Raises what one fails with."""
        try:
            for lifespan in self._lifespans.values():
                await lifespan.start()
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Stop them, last started first."""
        for lifespan in reversed(self._lifespans.values()):
            await lifespan.stop()

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
        root_path = scope.get("root_path", "").rstrip("/") + mount.path
        state = {**scope.get("state", {}), **self._lifespans[mount.path].state}
        await _call(mount.app, {**scope, "root_path": root_path, "state": state}, receive, send)


async def _call(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Parts of Starlette (``StaticFiles``, for one) raise HTTPException where an app of theirs would answer it."""
    begun = False

    async def tell(message: MutableMapping[str, Any]) -> None:
        nonlocal begun
        begun = True
        await send(message)

    try:
        await app(scope, receive, tell)
    except HTTPException as error:
        if begun:
            raise
        raise problem_with(error.status_code, error.detail, error.headers) from None
