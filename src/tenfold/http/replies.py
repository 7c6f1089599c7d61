"""Replies that were made before: whole-response caching and Idempotency-Key. Steps and their run-time half."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import msgspec

from tenfold.cache.load import Unshared
from tenfold.errors import BadRequest, DeclarationError
from tenfold.guard.idempotency import IdempotencyGuard, Replay, StoredReply, fingerprint
from tenfold.http.access import policy_of
from tenfold.http.encoding import etag_of, matches, not_modified
from tenfold.http.problems import answer_of, problem_of
from tenfold.http.reply import Headers

if TYPE_CHECKING:
    from tenfold._core.clock import Clock
    from tenfold.cache.cache import Cache
    from tenfold.http.compiler import Answer, Build
    from tenfold.http.operation import ResponseCache
    from tenfold.http.request import Request

Work = Callable[[], Awaitable["Answer"]]


# ── whole-response cache ──────────────────────────────────────────────────────────────────────────


def cached_response(build: Build) -> None:
    """Answer from the cache before anything is decoded; else run the rest once for all who wait."""
    policy = build.operation.policies.cache
    if policy is None:
        return
    cache = build.wiring.response_cache
    if cache is None:
        raise DeclarationError("it has cache=, but the app keeps no responses.", where=build.operation.where)
    private = not (policy.public or policy_of(build.operation, build.wiring.authenticator).anonymous_ok)
    responses = CachedResponses(cache, policy, build.wiring.clock, private=private, names=build.path_names)
    code = build.code
    code.use(cached=cache.get_nowait, load_response=responses.load)
    key = [build.operation.name, " {request.segments}?{request.query_string}"]
    for name in policy.vary:
        raw = name.lower().encode("latin-1")
        code.use(**{f"VARY_{raw.hex()}": raw})
        key.append(f" {{headers.get(VARY_{raw.hex()})}}")
    if private:
        key.append(" {principal.id}")
    code.line(f'key = f"{"".join(key)}"', "kept = cached(key)")
    code.line("if kept is not None:", "    answer = kept.answer(request, started)")
    code.open("else:")
    code.open("async def work():", " return answer", "answer = await load_response(key, work, request)")


class CachedReply(msgspec.Struct, frozen=True):
    """A whole response as it is kept."""

    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
    etag: bytes
    stored_at: float
    """Monotonic time."""

    def answer(self, request: Request, now: float) -> Answer:
        """The response with its age; 304 when the client has it."""
        headers: Headers = [*self.headers, (b"age", b"%d" % (now - self.stored_at))]
        if b"if-none-match" in request.header_bytes and matches(request, self.etag):
            return not_modified(headers)
        return 200, headers, self.body, None


class CachedResponses:
    """Fills the cache of one operation."""

    def __init__(
        self, cache: Cache, policy: ResponseCache, clock: Clock, *, private: bool, names: tuple[str, ...]
    ) -> None:
        self._cache = cache
        self._policy = policy
        self._clock = clock
        self._names = names
        self._control = self._cache_control(private)

    async def load(self, key: str, work: Work, request: Request) -> Answer:
        """Run ``work`` once for all who ask for ``key`` now, and keep what it answers if it may be kept."""

        async def loader() -> CachedReply | Unshared:
            answer = await work()
            status, headers, body, stream = answer
            if status != 200 or stream is not None or any(name == b"set-cookie" for name, _ in headers):
                return Unshared(answer)
            etag = etag_of(body)
            kept = (*headers, (b"etag", etag), *self._control)
            return CachedReply(kept, body, etag, self._clock.monotonic())

        loaded = await self._cache.get_or_load(
            key, loader, ttl_s=self._policy.ttl_s, stale_s=0.0, tags=self._tags(request)
        )
        if isinstance(loaded, CachedReply):
            return loaded.answer(request, self._clock.monotonic())
        answer: Answer = loaded.value if isinstance(loaded, Unshared) else loaded
        return answer

    def _tags(self, request: Request) -> list[str]:
        values = dict(zip(self._names, request.segments, strict=True))
        return [tag.format_map(values) if "{" in tag else tag for tag in self._policy.tags]

    def _cache_control(self, private: bool) -> Headers:
        policy = self._policy
        text = f"{'private' if private else 'public'}, max-age={int(policy.ttl_s)}"
        if policy.stale_s:
            text += f", stale-while-revalidate={int(policy.stale_s)}"
        headers: Headers = [(b"cache-control", text.encode())]
        vary = [*policy.vary, *(["Authorization", "Cookie"] if private else [])]
        return [*headers, (b"vary", ", ".join(vary).encode())] if vary else headers


# ── idempotency ───────────────────────────────────────────────────────────────────────────────────


def idempotency(build: Build) -> None:
    """With an ``Idempotency-Key``: one effect and one reply, however often the request arrives."""
    wanted = build.operation.policies.idempotent
    if not wanted:
        return
    guards = build.wiring.idempotency
    if guards is None:
        raise DeclarationError("it is idempotent, but the app keeps no keys.", where=build.operation.where)
    once = Once(
        guards(build.operation.service), build.operation.name, lease_s=build.timeout_s + LEASE_MARGIN_S
    )
    code = build.code
    code.use(once=once.run, key_missing=key_missing)
    without = "raise key_missing()" if wanted == "required" else "answer = await work()"
    code.open(
        "async def work():",
        " return answer",
        "if b'idempotency-key' in headers:",
        " answer = await once(request, work)",
        "else:",
        f" {without}",
    )


LEASE_MARGIN_S = 5.0
"""A run is cancelled at its deadline; this much later its key is free for another."""


def key_missing() -> BadRequest:
    return BadRequest("This operation needs the header Idempotency-Key: a new UUID for every new request.")


class Once:
    """Runs the keyed requests of one operation."""

    def __init__(self, guard: IdempotencyGuard, operation: str, *, lease_s: float) -> None:
        self._guard = guard
        self._operation = operation
        self._lease_s = lease_s

    async def run(self, request: Request, work: Work) -> Answer:
        """The stored answer, or that of ``work``, committed together with its effect."""
        key = request.header_bytes[b"idempotency-key"].decode("latin-1")
        principal = request.context.principal
        scope = self._operation if principal is None else f"{self._operation} {principal.id}"
        digest = fingerprint(request.method, request.path, request.query_string, await request.body())
        outcome = await self._guard.begin(key, scope, digest, lease_s=self._lease_s)
        if isinstance(outcome, Replay):
            return outcome.reply.status, list(outcome.reply.headers), outcome.reply.body, None
        try:
            answer, effect = await self._answer(request, work)
            await outcome.finish(StoredReply(answer[0], tuple(answer[1]), answer[2]), effect=effect)
        except BaseException:
            # Shielded: a request that is cancelled must still free its key.
            await asyncio.shield(outcome.abandon())
            raise
        return answer

    async def _answer(self, request: Request, work: Work) -> tuple[Answer, bool]:
        """The answer, and whether what was written is to be kept."""
        try:
            answer = await work()
        except Exception as error:
            problem = problem_of(error)
            if problem.status >= 500:
                raise
            context = request.context
            return answer_of(problem, request_id=context.request_id, instance=request.path), False
        if answer[3] is not None:
            raise TypeError(
                f"{self._operation} is idempotent, so its reply is stored: it cannot be a stream."
            )
        return answer, True
