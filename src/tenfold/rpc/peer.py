"""One service that runs elsewhere: its places, and the client that calls them."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from ipaddress import ip_network
from typing import TYPE_CHECKING, Final

from tenfold._core.context import current
from tenfold.client.answer import Answer
from tenfold.client.calling import done
from tenfold.client.options import Options
from tenfold.client.state import State
from tenfold.client.trying import Call
from tenfold.errors import ConfigError, DependencyUnavailable
from tenfold.guard.addresses import Place, place_of
from tenfold.rpc.choosing import Chooser
from tenfold.rpc.wire import MSGPACK, PATH, PRINCIPAL, SCHEME, principal_text

if TYPE_CHECKING:
    from tenfold._core.clock import Clock
    from tenfold.client.metrics import Families
    from tenfold.client.retrying import Outcome
    from tenfold.rpc.discovery import Places
    from tenfold.rpc.door import Identity

EVERYWHERE: Final = (ip_network("0.0.0.0/0"), ip_network("::/0"))
"""Where services are is said by settings and not by callers, so any address may be called."""
OPTIONS: Final = Options(
    timeout_s=86_400.0,  # a call's own time is less
    concurrency=512,
    waiting_max=512,
    wait_s=1.0,
    answer_max_bytes=67_108_864,
    breaker_open_max_s=2.0,
    ours=True,
)


class Peer:
    """From ``start`` to ``stop`` it can be called. One per service that this process does not serve."""

    def __init__(
        self,
        service: str,
        places: Places,
        clock: Clock,
        *,
        app: str,
        span_id: Callable[[], str],
        identity: Identity | None = None,
        ca_file: str = "",
        tls: Callable[[], ssl.SSLContext | None] = lambda: None,
    ) -> None:
        self.service = service
        self._places, self._clock, self._identity = places, clock, identity
        self._app, self._span_id, self._ca_file, self._tls = app, span_id, ca_file, tls
        self._chooser = Chooser()
        self._known: Mapping[str, Place] = {}
        self._state: State | None = None

    # ── life ──

    def start(self, families: Families) -> State:
        """Raises ConfigError for certificates that cannot be read."""
        from tenfold.rpc.transport import PeerTransport

        state = State(
            self.service,
            OPTIONS,
            self._clock,
            transport=PeerTransport(
                idle_max=OPTIONS.concurrency,
                body_max_bytes=OPTIONS.answer_max_bytes,
                context=self._tls() or certificates(self.service, self._ca_file),
            ),
            metrics=families.of(self.service),
            span_id=self._span_id,
            caller=self._app,
            base=None,
            headers={},
            allowed=EVERYWHERE,
            plain_http=True,
        )
        state.router = self
        families.follow(state)
        self._state = state
        return state

    async def stop(self) -> None:
        state, self._state = self._state, None
        if state is not None:
            await state.transport.stop()

    # ── calls ──

    async def call(self, operation: str, sent: bytes, *, reads: bool, timeout_s: float) -> Answer:
        """The answer of one of the places, of whatever status. ``reads``: doing it twice does no harm.

        Raises CallError, with a sentence."""
        state = self._state
        if state is None:
            raise DependencyUnavailable(
                f"{self.service} cannot be called before the app has started, or after it has stopped.",
                dependency=self.service,
                reason="place",
            )
        now = self._clock.monotonic()
        await self._refresh()
        call = Call(
            method="POST",
            place=self._placed(state, operation, now, ()),
            path=PATH + operation,
            headers=self._headers(),
            content=sent,
            idempotent=reads,
            timeout_s=timeout_s,
            ends=now + timeout_s,
        )
        answer = await done(state, call)
        assert isinstance(answer, Answer)
        return answer

    def after(self, call: Call, outcome: Outcome) -> Call:
        """For the client (:class:`~tenfold.client.retrying.Router`): another place for the next try."""
        state, now = self._state, self._clock.monotonic()
        base = call.place.authority
        if not outcome.unsent:
            self._chooser.answered(base)
            if not outcome.failed:
                return call
        else:
            self._chooser.failed(base, now)
        if state is None:
            return call
        place = self._placed(state, call.path.removeprefix(PATH), now, (base,))
        return Call(
            method=call.method,
            place=place,
            path=call.path,
            headers=call.headers,
            content=call.content,
            idempotent=call.idempotent,
            timeout_s=call.timeout_s,
            ends=call.ends,
        )

    async def _refresh(self) -> None:
        urls = await self._places.places(self.service)
        places = (place_of(url, plain_http=True, allowed=EVERYWHERE) for url in urls)
        self._known = {place.authority: place for place in places}

    def _placed(self, state: State, operation: str, now: float, avoid: tuple[str, ...]) -> Place:
        def busy(authority: str) -> float:
            if state.hosts.of(authority).breaker.state(now) == "open":
                return float("inf")
            return state.places.by_host.get(authority, 0)

        found = self._known[self._chooser.choose(list(self._known), now, busy, avoid)]
        return Place(found.scheme, found.host, found.port, PATH + operation)

    def _headers(self) -> dict[str, str]:
        headers = {
            "Content-Type": MSGPACK.media_type,
            "Accept": MSGPACK.media_type,
            # To pack and unpack costs both sides more than these bytes on a network of one's own.
            "Accept-Encoding": "identity",
        }
        context = current()
        if text := principal_text(context.principal):
            headers[PRINCIPAL] = text
        if self._identity is not None:
            headers["Authorization"] = f"{SCHEME} {self._identity.issue(context.service, self.service)}"
        return headers


def certificates(service: str, ca_file: str) -> ssl.SSLContext | None:
    """Whom to trust; None for whom the system trusts. Raises ConfigError for a file that cannot be read."""
    if not ca_file:
        return None
    try:
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"{ca_file} has no certificates that can be read: {error}.", where=f"services.{service}.ca_file"
        ) from None
