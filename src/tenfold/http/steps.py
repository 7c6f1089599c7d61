"""The steps around decode and encode, in the order of the pipeline. Each writes code into the endpoint."""

from __future__ import annotations

import asyncio
import sys
import time
from bisect import bisect_left
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from tenfold._core.context import Context, Priority, current
from tenfold._core.context import enter as enter_context
from tenfold.http import limiting
from tenfold.http.access import Authentication, admitted, optional, policy_of
from tenfold.http.deadline import RAW_HEADER, TICK_S, Caller, too_late
from tenfold.http.encoding import is_plain
from tenfold.http.recorded import announced, end_span
from tenfold.http.recover import ABORTED, Recovery
from tenfold.http.request import Request
from tenfold.security.policy import authenticated
from tenfold.security.principal import Principal
from tenfold.telemetry.metrics import SECONDS
from tenfold.telemetry.trace import low_bits

if TYPE_CHECKING:
    from tenfold.http.build import Build
    from tenfold.http.wiring import Tracing
    from tenfold.security.authenticator import Authenticator


def trace(build: Build) -> None:
    """A context of its own for every request, with the caller's trace or a new one."""
    code, wiring, operation = build.code, build.wiring, build.operation
    code.use(monotonic=wiring.clock.monotonic, Context=Context, set_context=enter_context)
    code.use(ids=wiring.request_ids)
    members = [
        f"request_id=f'{wiring.boot}-{{number:x}}'",
        f"deadline=started + {build.timeout_s!r}",
        f"service={operation.service!r}",
        f"operation={operation.name!r}",
    ]
    if wiring.clock.monotonic is not time.monotonic:
        members.append("monotonic=monotonic")
    if operation.policies.priority is not Priority.DEFAULT:
        code.use(PRIORITY=operation.policies.priority)
        members.append("priority=PRIORITY")
    code.line("started = monotonic()", "headers = request.header_bytes", "number = next(ids)")
    tracer = None if wiring.telemetry is None else wiring.telemetry.tracer
    if tracer is None:
        code.line(f"context = request.context = Context({', '.join(members)})")
    else:
        code.use(begin_trace=tracer.begin)
        joined = [
            *members, "trace_id=trace.trace_id", "span_id=trace.span_id", "sampled=trace.sampled",
            "tracestate=headers[b'tracestate'].decode('latin-1') if b'tracestate' in headers else ''",
        ]  # fmt: skip
        # The id of a trace that nobody records only has to be unique, and a number is.
        fresh = [*members, f"trace_id=f'{tracer.origin}{{number:016x}}'"]
        # What joins a trace is recorded where the others of that trace are.
        same = "; number = low_bits(trace.trace_id, number)" if tracer.recorder is not None else ""
        code.use(tracer=tracer, low_bits=low_bits)
        begin = f"context = request.context = Context({', '.join(fresh)})"
        picks = tracer.samples or tracer.recorder is not None
        picked = "number >= tracer.at or " if picks else ""
        # Most requests are not picked, and pay for being counted and logged only.
        code.line(
            f"picked = {picked}b'traceparent' in headers",
            f"if not picked: {begin}",
            "else:",
            f"    trace = {'tracer.pick(number)' if picks else 'None'}",
            "    if b'traceparent' in headers: trace = begin_trace(headers[b'traceparent'].decode('latin-1'))",
            f"    if trace is None: {begin}",
            f"    else: context = request.context = Context({', '.join(joined)}){same}",
        )
    code.line("set_context(context)")


def measure(build: Build) -> None:
    """Count the request and its time, write the access log, record a span where the trace is sampled."""
    code, operation, telemetry = build.code, build.operation, build.wiring.telemetry
    if telemetry is None:
        code.after("return answer")
        return
    stats = telemetry.stats(operation.name, operation.method, operation.path)
    stats.objective = operation.policies.slo or None
    code.use(stats=stats, ABORTED=ABORTED)
    code.line("stats.in_flight += 1", "answer = ABORTED")
    after = [
        "ended = monotonic()",
        "seconds = ended - started",
        # OperationStats.record, written out.
        "stats.in_flight -= 1",
        "stats.statuses[answer[0] // 100] += 1",
        "stats.buckets[bucket_of(SECONDS, seconds)] += 1",
        "stats.sum_s += seconds",
    ]
    code.use(bucket_of=bisect_left, SECONDS=SECONDS)
    if stats.objective is not None:
        late = "" if stats.objective.under_s is None else f" or seconds > {stats.objective.under_s!r}"
        after.append(f"if answer[0] >= 500{late}: stats.bad += 1")
    if telemetry.tracer is not None:
        after.append(_recorded(build, telemetry.tracer))
    if stats.keeping is not None:
        code.use(sample=stats.keeping.sample, keep=stats.keeping.keep)
        after += [
            f"fair = {'' if telemetry.tracer is None else 'picked and '}number & sample.mask == 0",
            "if fair or answer[0] >= 500 or seconds > stats.slow_s: keep(request, answer, seconds, fair)",
        ]
    if telemetry.access is not None:
        log = telemetry.access
        code.use(access_log=log, access_waiting=log.waiting, announced=announced)
        streamed = "" if is_plain(operation) else " if answer[3] is None else announced(request, answer)"
        after += [
            f"sent = len(answer[2]){streamed}",
            # As Access has it, and AccessLog.record, written out
            "access_waiting.append((ended, seconds, request.method, request.path, answer[0], sent, "
            f"{operation.name!r}, context.request_id, context.trace_id, request.scope.get('client')))",
            "if len(access_waiting) > access_log.room: access_log.crowded()",
        ]
    code.open("try:", "finally:", *(" " + line for line in after), "return answer")


def _recorded(build: Build, tracer: Tracing) -> str:
    """Begin the outermost span where the trace is sampled or recorded; answers how it ends."""
    code, operation = build.code, build.operation
    code.use(root_span=tracer.root, end_span=end_span)
    attributes = f"**{{'http.request.method': {operation.method!r}, 'http.route': {operation.path!r}}}"
    span = f"root_span({operation.name!r}, {attributes})"
    asked = "context.sampled"
    if tracer.recorder is not None:
        code.use(recording=tracer.recorder.traces)
        asked += " or number & recording.mask == 0"
    code.use(current=current)
    # The work goes on in the span's own context: what the next steps find out (who asks, how long) is to be in that.
    code.line(
        "span = None",
        f"if picked and ({asked}):",
        f"    span = {span}",
        "    entered = span.__enter__()",
        "    context = request.context = current()",
    )
    return "if span is not None: end_span(span, entered, request, answer)"


def recover(build: Build) -> None:
    """Any error becomes a problem document; what nobody foresaw is logged with its traceback."""
    authenticator = build.wiring.authenticator
    recovery = Recovery(
        build.operation, build.timeout_s, challenge="" if authenticator is None else authenticator.challenge
    )
    build.code.use(recover=recovery.answer)
    build.code.open("try:", "except BaseException as error:", " answer = recover(error, request)")


def callers_deadline(build: Build) -> None:
    """Who will not wait for as long as the operation may take says so in a header; the nearer end holds."""
    code = build.code
    code.use(narrow=Caller(build.wiring.sweeper).narrow)
    code.line(f"if {RAW_HEADER!r} in headers: narrow(request, started)")


def deadline(build: Build) -> None:
    """Be known to the sweeper, which cancels what is late."""
    code = build.code
    sweeper = build.wiring.sweeper
    if build.timeout_s <= TICK_S:
        code.use(look_at=sweeper.look_at)
        code.line("look_at(context.deadline)")
    code.use(inflight=sweeper.inflight, sweeper=sweeper, current_task=asyncio.current_task)
    # The loop is named because asking for the running one costs a system call, as asyncio guards against forks.
    if sys.version_info >= (3, 12):
        code.line("task = current_task(sweeper.loop) or current_task()")
    else:
        # Python 3.11 has current_task in Python: three calls where this is none.
        code.use(TASKS=getattr(asyncio.tasks, "_current_tasks"))  # noqa: B009
        code.line("task = TASKS[sweeper.loop] if sweeper.loop in TASKS else current_task()")
    code.line("inflight[task] = request")
    code.open("try:", "finally:", " del inflight[task]", " if request.held_bytes: request.let_go()")


def authentication(build: Build) -> None:
    """Who asks, and may they? A public operation that does not look at the caller does not ask."""
    code, operation, injection = build.code, build.operation, build.injection
    policy = policy_of(operation, build.wiring.authenticator)
    if policy.anonymous_ok and not injection.wants_principal and not limiting.asks_who(build):
        return
    code.line("principal = None")
    if build.wiring.authenticator is not None:
        authenticator, admission = build.wiring.authenticator, build.wiring.admission
        callers = None if admission is None else build.wiring.callers
        code.use(fast=authenticator.fast, authenticate=Authentication(authenticator, callers).authenticate)
        # Two credentials are the authenticator's to judge, also when one of them is remembered.
        others = "".join(f" and {name.encode()!r} not in headers" for name in authenticator.other_credentials)
        code.line(
            f"if b'authorization' in headers{others}: principal = fast(headers[b'authorization'])",
            f"if principal is None{_carried(authenticator)}: principal = await authenticate(request)",
            "if principal is not None:",
            "    context.principal = principal",
            "    context.tenant = principal.tenant",
        )
        if admission is not None:
            code.line("    if guessed is not None: settle(request, priority, guessed, principal)")
    if not policy.anonymous_ok:
        code.use(check=policy.check_async if policy.asynchronous else policy.check)
        if policy is authenticated:  # Policy.check, written out for those who pass
            code.line("if principal is None or principal.restricted: check(principal)")
        else:
            code.line("await check(principal, request)" if policy.asynchronous else "check(principal)")
    for param in injection.principals:
        known = not policy.anonymous_ok and issubclass(policy.principal_type, param.type)
        code.use(**{f"type_of_{param.name}": param.type}, admitted=admitted, optional=optional)
        judge = "optional" if param.optional else "admitted"
        expression = "principal" if known else f"{judge}(principal, type_of_{param.name})"
        code.line(f"principal_{param.name} = {expression}")
        build.arguments[param.name] = f"principal_{param.name}"


def _carried(authenticator: Authenticator) -> str:
    """The condition without which a request has no credential: for many requests nothing else has to be done."""
    if authenticator.carriers is None:
        return ""
    return f" and ({' or '.join(f'{name.encode()!r} in headers' for name in authenticator.carriers)})"


def dependencies(build: Build) -> None:
    """What the container makes; clean-up runs after the reply was encoded."""
    plan = build.injection.plan
    if not plan:
        return
    code = build.code
    code.use(AsyncExitStack=AsyncExitStack, resolve=plan.resolve, Request=Request, Context=Context)
    given = ["Request: request", "Context: context"]
    _open_database(build)
    for type_, value in build.injection.database_values:
        if build.injection.wants(type_):
            code.use(**{type_.__name__: type_})
            given.append(f"{type_.__name__}: {value}")
    if plan.uses(Principal):
        code.use(Principal=Principal)
        given.append("Principal: principal")
    code.open("async with AsyncExitStack() as stack:")
    code.line(f"made = await resolve({{{', '.join(given)}}}, stack)")
    for name in plan.wanted:
        build.arguments[name] = f"made[{name!r}]"


def transaction(build: Build) -> None:
    """``Tx``: opened here, committed when the reply was encoded, rolled back when anything fails before."""
    if not build.injection.plan:
        _open_database(build)
    for name, type_ in build.injection.direct.items():
        build.arguments[name] = {Request: "request", Context: "context"}.get(type_) or dict(
            build.injection.database_values
        )[type_]


def _open_database(build: Build) -> None:
    code, injection = build.code, build.injection
    database = build.wiring.databases.get(build.operation.service)
    for type_, value in injection.database_values:
        if injection.wants(type_):
            code.use(database=database)
            if value == "tx":
                code.open("async with database.tx() as tx:")
            else:
                code.line("reader = database.read()")


def handler(build: Build) -> None:
    """The operation's function, in a thread when it is a plain one; not when its time is over, whatever it has waited
    for until now."""
    code, operation = build.code, build.operation
    # What makes a kept response works for all who wait, in a time of its own.
    if operation.policies.cache is None:
        code.use(too_late=too_late)
        code.line(f"if monotonic() >= context.deadline: raise too_late(request, {build.timeout_s!r})")
    arguments = ", ".join(f"{name}={expression}" for name, expression in build.arguments.items())
    code.use(fn=operation.fn)
    if operation.is_async:
        code.line(f"result = await fn({arguments})")
        return
    code.use(run_in_thread=build.wiring.threads.run)
    code.line(
        f"result = await run_in_thread(fn, {arguments})" if arguments else "result = await run_in_thread(fn)"
    )
