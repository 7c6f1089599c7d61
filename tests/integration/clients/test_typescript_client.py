"""The generated TypeScript client, compiled strictly and run by Node against a running server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from support import every_kind
from support.clients import Dropping, needs_typescript, run_script, served, typescript_client

pytestmark = needs_typescript

SCRIPT = r"""
import * as api from "./every-kind-client.js";

declare const process: { argv: string[] };
const [, , url = "", proxied = "", other = ""] = process.argv;
const { kinds } = new api.Client({ baseUrl: url, timeoutMs: 10_000 });
const seen: { [claim: string]: unknown } = {};

async function refusal(call: Promise<unknown>): Promise<{ kind: string; error: unknown }> {
  try {
    await call;
    return { kind: "none", error: null };
  } catch (error) {
    return { kind: error instanceof Error ? error.name : String(error), error };
  }
}

const shape: api.Square = { type: "square", side: 2.5, colour: api.Colour.DARK_GREEN };
const every: api.Every = {
  text: "naïve ☃", whole: 2 ** 50, real: 0.1, yes: true, moment: "2026-11-22T20:00:00.123456Z",
  day: "2026-02-28", clock: "09:30:00", lasting: "P2DT3S", price: "19.990",
  key: "00000000-0000-0000-0000-000000000007", raw: api.toBase64(Uint8Array.of(0, 255, 10)),
  colour: "dark-green", size: api.Size.VALUE_3, shape, point: [1, -1],
  notes: [{ text: "one", class_: "fine" }], byName: { "a/b": { type: "circle", radius: 1.5 } }, import: "from",
};
const answer = await kinds.echo(every);
seen["same"] = Object.entries(every).every(([name, value]) =>
  JSON.stringify((answer as unknown as { [name: string]: unknown })[name]) === JSON.stringify(value));
seen["raw"] = Array.from(api.fromBase64(answer.raw));
seen["defaults"] = [answer.maybe, answer.level, answer.tags, "leftOut" in answer];
// A discriminated union: the compiler knows which member is there.
seen["side"] = answer.shape.type === "square" ? answer.shape.side : answer.shape.radius;

seen["changes"] = [await kinds.change({}), await kinds.change({ name: null }), await kinds.change({ age: 3 })];
seen["look"] = await kinds.look("a/b ?&=", "deep/er/path", {
  colours: ["red", "dark-green"], since: "2026-01-02T00:00:00Z", exact: true, xTraceColour: "blue",
});
const numbers: number[] = [];
for await (const number of kinds.iterNumbers()) numbers.push(number);
seen["numbers"] = numbers;

const late = await refusal(kinds.refuse("late"));
seen["late"] = late.error instanceof api.TooLate && late.error instanceof api.Conflict
  && [late.error.name, late.error.status, late.error.detail, late.error.extra["since"]];
seen["others"] = [
  (await refusal(kinds.refuse("other"))).kind, (await refusal(kinds.refuse("broken"))).kind,
  (await refusal(kinds.flakyOnce("ts-post"))).kind,
];
const busy = (await refusal(kinds.refuse("busy"))).error;
seen["busy"] = busy instanceof api.Problem && [busy.status, busy.retryAfterMs];
const wrong = (await refusal(kinds.look("a", "b", { colours: ["red"], since: "2026-01-02T00:00:00Z", limit: 0 }))).error;
seen["wrong"] = wrong instanceof api.InvalidInput && wrong.errors.map((field) => `${field.in} ${field.path}`);
seen["flaky"] = await kinds.flaky("ts-get");
seen["slow"] = (await refusal(kinds.slow({ timeoutMs: 300 }))).kind;
const stop = new AbortController();
setTimeout(() => stop.abort("enough"), 50);
seen["aborted"] = (await refusal(kinds.slow({ signal: stop.signal }))).error;
seen["gone"] = (await refusal(new api.Client({ baseUrl: "http://127.0.0.1:1", attempts: 2 }).kinds.nothing())).kind;
seen["path"] = await refusal(Promise.resolve().then(() => kinds.refuse(".."))).then((it) => it.kind);

const more = [new File(["22"], "b.txt"), new Blob(["333"], { type: "image/png" })];
seen["files"] = (await kinds.sendFile({ document: new Blob(["x".repeat(70_000)]), more, comment: "naïve" }))
  .map((kept) => [kept.name, kept.bytes, kept.comment]);
seen["form"] = await kinds.fillIn({ name: "a&b=c", age: 7 });
seen["two"] = await kinds.twoBodies({ first: { text: "a" }, second: { text: "b" } });
seen["raw sent"] = await kinds.takeRaw("12345");
const loaded = await kinds.download();
seen["download"] = [await loaded.text(), loaded.type];
seen["redirect"] = new URL(await kinds.old()).pathname;
seen["anything"] = await kinds.anything();
seen["nothing"] = (await kinds.nothing()) === undefined;
const events: unknown[] = [];
for await (const event of kinds.watch()) events.push([event.id, event.event, event.data]);
seen["events"] = events;

const [far, farther] = [new api.Client({ baseUrl: proxied }).kinds, new api.Client({ baseUrl: other }).kinds];
seen["dropped"] = [(await far.listNumbers()).items, (await refusal(farther.takeRaw("once"))).kind];
console.log(JSON.stringify(seen));
"""


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    every_kind.tried.clear()
    script = typescript_client(every_kind.app, SCRIPT, tmp_path_factory.mktemp("typescript"))
    with (
        served(every_kind.app, tmp_path_factory.mktemp("data")) as url,
        Dropping(url, 1) as first,
        Dropping(url, 1) as second,
    ):
        yield run_script(script, url, first.through(url), second.through(url))


def test_every_kind_of_value_comes_back_as_it_went(seen: dict[str, Any]) -> None:
    assert seen["same"] is True
    assert seen["raw"] == [0, 255, 10]
    assert seen["defaults"] == [None, "low", [], False]
    assert seen["side"] == 2.5


def test_unset_and_null_are_two_things(seen: dict[str, Any]) -> None:
    assert seen["changes"] == [{}, {"name": True}, {"age": False}]


def test_parameters_of_every_place_arrive(seen: dict[str, Any]) -> None:
    assert seen["look"] == {
        "name": "a/b ?&=",
        "rest": "deep/er/path",
        "colours": "red,dark-green",
        "since": "2026-01-02T00:00:00+00:00",
        "limit": "10",
        "exact": "True",
        "trace": "blue",
        "flavour": "",
    }
    assert seen["path"] == "RangeError"


def test_pages_are_followed_to_the_last(seen: dict[str, Any]) -> None:
    assert seen["numbers"] == list(range(10))


def test_problems_are_classes_and_carry_what_the_server_said(seen: dict[str, Any]) -> None:
    assert seen["late"] == ["TooLate", 409, "It was over an hour ago.", 3600]
    assert seen["others"] == ["NotFound", "InternalError", "Unavailable"]
    assert seen["busy"] == [429, 60_000]
    assert seen["wrong"] == ["query limit"]


def test_what_may_be_repeated_is_and_nothing_else(seen: dict[str, Any]) -> None:
    assert seen["flaky"] == 3
    assert every_kind.tried["ts-post"] == 1
    assert seen["dropped"] == [[0, 1, 2, 3], "ConnectionFailed"]


def test_time_and_signals_end_a_call(seen: dict[str, Any]) -> None:
    assert seen["slow"] in ("TimedOut", "DeadlineExceeded")
    assert seen["aborted"] == "enough"
    assert seen["gone"] == "ConnectionFailed"


def test_bodies_and_answers_of_other_kinds(seen: dict[str, Any]) -> None:
    assert seen["files"] == [["document", 70_000, "naïve"], ["b.txt", 2, "naïve"], ["more", 3, "naïve"]]
    assert seen["form"] == "a&b=c 7"
    assert (seen["two"], seen["raw sent"]) == (["a", "b"], 5)
    assert seen["download"] == ["one two", "text/csv"]
    assert (seen["redirect"], seen["anything"], seen["nothing"]) == ("/download", {"any": ["thing"]}, True)


def test_a_broken_stream_is_taken_up_where_it_broke(seen: dict[str, Any]) -> None:
    assert seen["events"] == [[str(n), "shape", {"type": "circle", "radius": float(n)}] for n in (1, 2, 3)]
