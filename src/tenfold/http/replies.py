"""Replies that were made before: whole-response caching and Idempotency-Key. Steps and their run-time half."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, get_origin

from msgspec.structs import force_setattr

from tenfold.cache.policy import Lifetime
from tenfold.cache.response import CachedResponse, cached_response, is_cacheable
from tenfold.errors import BadRequest, DeclarationError
from tenfold.guard.idempotency import IdempotencyGuard
from tenfold.guard.keys import Replay, StoredReply, fingerprint
from tenfold.http.access import policy_of
from tenfold.http.encoding import return_type
from tenfold.http.problems import answer_of, problem_of
from tenfold.http.reply import SharedHeaders, StreamingResponse
from tenfold.http.types import members

if TYPE_CHECKING:
    from tenfold.cache.response import ResponseStore
    from tenfold.db.database import Database
    from tenfold.http.build import Build
    from tenfold.http.operation import ResponseCache
    from tenfold.http.reply import Answer
    from tenfold.http.request import Request

Work = Callable[[], Awaitable["Answer"]]


# ── whole-response cache ──────────────────────────────────────────────────────────────────────────


def open_response_cache(build: Build) -> None:
    """For what anybody may see: a hit takes no place among the requests in progress and needs no deadline."""
    policy = build.operation.policies.cache
    if policy is not None and not asks_who(build):
        _look_up(build, policy, responses_of(build, policy))


def response_cache(build: Build) -> None:
    """For the others, once it is known who asks. On a miss, the rest is run once for all who wait."""
    policy = build.operation.policies.cache
    if policy is None:
        return
    code, responses = build.code, responses_of(build, policy)
    if asks_who(build):
        _look_up(build, policy, responses)
    code.use(load_response=responses.load)
    code.open("async def work():", " return answer", "answer = await load_response(key, work, request)")


def asks_who(build: Build) -> bool:
    """Whether the answer needs to know the caller."""
    policy = policy_of(build.operation, build.wiring.authenticator)
    return not policy.anonymous_ok or build.injection.wants_principal


def responses_of(build: Build, policy: ResponseCache) -> CachedResponses:
    """Raises DeclarationError in an app without a response cache."""
    store = build.wiring.response_cache
    if store is None:
        raise DeclarationError("it has cache=, but the app keeps no responses.", where=build.operation.where)
    private = not (policy.public or policy_of(build.operation, build.wiring.authenticator).anonymous_ok)
    return CachedResponses(store, policy, build, private=private)


def _look_up(build: Build, policy: ResponseCache, responses: CachedResponses) -> None:
    """Answer a hit; what later steps write is for a miss."""
    code = build.code
    code.use(lookup=responses.lookup, hit=responses.hit)
    key = [build.operation.name, " {request.segments}?{request.query_string!r}"]
    for name in policy.vary:
        raw = name.lower().encode("latin-1")
        key.append(f" {{headers.get({raw!r})}}".replace('"', "'"))
    if responses.private:
        key.append(" {principal.id}")
    code.line(f'key = f"{"".join(key)}"', "kept = lookup(key)")
    code.line("if kept is not None:", "    answer = hit(kept, request, started)")
    code.open("else:")


class CachedResponses:
    """The kept responses of one operation."""

    def __init__(self, store: ResponseStore, policy: ResponseCache, build: Build, *, private: bool) -> None:
        self._store = store
        self.lookup = store.lookup
        self.peek = store.peek
        self.hits = store.stats
        self.private = private
        self._policy = policy
        self._clock = build.wiring.clock
        self._names = build.path_names
        self._life = Lifetime(policy.ttl_s, policy.stale_s, None, 0.1)
        self._control = _cache_control(policy, private).encode()
        self._vary = ", ".join([*policy.vary, *(["Authorization", "Cookie"] if private else [])]).encode()
        edge = build.wiring.edge
        self._edge = () if edge is None else edge.headers
        self._cors = edge is not None and edge.cors is not None

    def hit(self, kept: CachedResponse, request: Request, now: float) -> Answer:
        """A kept response with its age; 304 when the client has it."""
        headers = request.header_bytes
        if b"if-none-match" in headers and kept.matches(headers[b"if-none-match"]):
            age = (b"age", b"%d" % (now - kept.stored_at))
            return 304, [*kept.not_modified, age, *self._edge], b"", None
        return self.show(kept, now)

    def show(self, kept: CachedResponse, now: float) -> Answer:
        """A kept response with its age: the same object for the same second."""
        seconds = int(now - kept.stored_at)
        if kept.shown is not None and kept.shown[0] == seconds:
            answer: Answer = kept.shown[1]
            return answer
        every = [*kept.headers, (b"age", b"%d" % seconds), *self._edge]
        if self._cors:  # its headers differ from client to client, and are added to the list
            return kept.status, every, kept.body, None
        answer = (kept.status, SharedHeaders(every), kept.body, None)
        force_setattr(kept, "shown", (seconds, answer))
        return answer

    async def load(self, key: str, work: Work, request: Request) -> Answer:
        """Run ``work`` once for all who ask for ``key`` now, and keep what it answers if it may be kept."""

        async def produce() -> CachedResponse | Answer:
            answer = await work()
            status, headers, body, stream = answer
            if stream is not None or not is_cacheable(status, headers):
                return answer
            own = [pair for pair in headers if pair not in self._edge]
            if self._vary:
                own.append((b"vary", self._vary))
            return cached_response(
                status, own, body, cache_control=self._control, now=self._clock.monotonic()
            )

        made = await self._store.fill(key, produce, self._life, self._tags(request))
        return self.hit(made, request, self._clock.monotonic()) if isinstance(made, CachedResponse) else made

    def _tags(self, request: Request) -> list[str]:
        values = dict(zip(self._names, request.segments, strict=True))
        return [tag.format_map(values) if "{" in tag else tag for tag in self._policy.tags]


def _cache_control(policy: ResponseCache, private: bool) -> str:
    text = f"{'private' if private else 'public'}, max-age={int(policy.ttl_s)}"
    return f"{text}, stale-while-revalidate={int(policy.stale_s)}" if policy.stale_s else text


# ── idempotency ───────────────────────────────────────────────────────────────────────────────────


def idempotency_key(build: Build) -> None:
    """Where the key is required, that it is missing is said before anything else of the request."""
    if build.operation.policies.idempotent == "required":
        build.code.use(key_missing=key_missing)
        build.code.line("if b'idempotency-key' not in headers: raise key_missing()")


def idempotency(build: Build) -> None:
    """With an ``Idempotency-Key``: one effect and one reply, however often the request arrives."""
    wanted = build.operation.policies.idempotent
    if not wanted:
        return
    guards = build.wiring.idempotency
    if guards is None:
        raise DeclarationError("it is idempotent, but the app keeps no keys.", where=build.operation.where)
    if streams(return_type(build.operation)):
        raise DeclarationError(
            "it is idempotent, so its reply is stored: it cannot be a stream.",
            where=build.operation.where,
            remedy="Answer with where the stream is to be fetched from, or drop idempotent=.",
        )
    database = build.wiring.databases.get(build.operation.service)
    once = Once(guards(build.operation.service), build.operation.name, database)
    code = build.code
    code.use(once=once.run)
    run = ["answer = await once(request, work)"]
    if wanted != "required":
        run = ["if b'idempotency-key' in headers:", " " + run[0], "else:", " answer = await work()"]
    code.open("async def work():", " return answer", *run)


def streams(result: Any) -> bool:
    """Whether a return type is, or may be, a stream."""
    kinds = [get_origin(member) or member for member in members(result)]
    return any(isinstance(kind, type) and issubclass(kind, StreamingResponse) for kind in kinds)


def key_missing() -> BadRequest:
    return BadRequest("This operation needs the header Idempotency-Key: a new UUID for every new request.")


def the_key(request: Request) -> str:
    """The value of the header. Raises BadRequest for two that differ: either could be what the client repeats."""
    said = {value for name, value in request.raw_headers if name == b"idempotency-key"}
    if len(said) > 1:
        raise BadRequest(
            f"The header Idempotency-Key came {len(said)} times, with different values; send it once."
        )
    return request.header_bytes[b"idempotency-key"].decode("latin-1")


class Once:
    """Runs the keyed requests of one operation."""

    def __init__(self, guard: IdempotencyGuard, operation: str, database: Database | None) -> None:
        self._guard = guard
        self._operation = operation
        self._database = database

    async def run(self, request: Request, work: Work) -> Answer:
        """The stored answer, or that of ``work``, committed together with its effect."""
        key = the_key(request)
        principal = request.context.principal
        # Of a caller who acts for several tenants, none may see what another got.
        who = "" if principal is None else f" {principal.id} {principal.tenant or ''}".rstrip()
        scope = f"{self._operation}{who}"
        digest = fingerprint(request.method, request.path, request.query_string, await request.body())
        outcome = await self._guard.begin(key, scope, digest)
        if isinstance(outcome, Replay):
            if self._database is not None and self._database.replicas is not None:
                await self._database.replicas.catch_up()  # the effect is this client's write, too
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
