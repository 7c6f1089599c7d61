"""Ranges, performance data and exit codes, as the Monitoring Plugins' guidelines have them; and what pages say."""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tenfold.cli.program import run
from tenfold.errors import ConfigError
from tenfold.observe.nagios import Datum, State, Verdict, range_of, worst
from tenfold.observe.reading import quantile, read, traffic

METRICS = """# TYPE tenfold_queue_oldest_ready_seconds gauge
tenfold_queue_oldest_ready_seconds 75.5
tenfold_queue_messages{queue="mail",state="dead"} 3.0
tenfold_queue_messages{queue="mail",state="ready"} 12.0
tenfold_alerts{state="firing",severity="page"} 0.0
tenfold_alerts{state="firing",severity="ticket"} 2.0
odd{text="a \\"quoted\\" | bar\\nline"} NaN
nonsense
"""
READY = b'{"ready":true,"sentence":"Ready.","checks":[{"name":"database","ok":true,"sentence":"Fine.","took_ms":1.5}]}'
UNREADY = READY.replace(b"true", b"false").replace(b"Ready.", b"Not ready, because of: database.")


@pytest.mark.parametrize(
    ("text", "alerting", "fine"),
    [
        ("10", [-1, 10.1], [0, 10]),
        ("10:", [9.9, -1], [10, 1e9]),
        ("~:10", [10.1], [-1e9, 10]),
        ("10:20", [9, 21], [10, 20]),
        ("@10:20", [10, 15, 20], [9, 21]),
        ("-5:5.5", [-6, 6], [-5, 5.5]),
    ],
)
def test_ranges_are_those_of_the_guidelines(text: str, alerting: list[float], fine: list[float]) -> None:
    found = range_of(text, "-w")
    assert found is not None
    assert all(found.alerts(value) for value in alerting)
    assert not any(found.alerts(value) for value in fine)


@pytest.mark.parametrize("text", ["ten", "@", "10:5", "1;2", "10::20", "~"])
def test_what_is_no_range_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--warning"):
        range_of(text, "--warning")


def test_performance_data_has_no_character_that_would_end_it() -> None:
    datum = Datum("it's | a=b", 0.25, "s", range_of("1", "w"), range_of("2", "c"))
    assert str(datum) == "'it_s_a_b'=0.25s;1;2;0;"
    verdict = Verdict(State.OK, "fine | really\nso", [datum], ["more | of it"])
    assert str(verdict) == "OK - fine / really so | 'it_s_a_b'=0.25s;1;2;0;\nmore / of it"


def test_the_worst_state_counts_and_no_number_is_unknown() -> None:
    assert worst([State.OK, State.UNKNOWN, State.WARNING]) == State.WARNING
    assert worst([]) == State.OK
    assert Datum("x", math.nan).state == State.UNKNOWN


def test_pages_are_read_with_their_escapes_and_nonsense_is_skipped() -> None:
    page = read(METRICS, 0.0)
    assert page.total("tenfold_queue_messages", {"queue": "mail"}) == 15
    assert page.of("odd")[0].labels == {"text": 'a "quoted" | bar\nline'}
    assert "nonsense" not in page.numbers


def metrics(requests: int, slow: int) -> str:
    labels = 'operation="a.b",method="GET",route="/"'
    return f"""tenfold_http_requests_total{{{labels},status="2xx"}} {requests}
tenfold_http_requests_total{{{labels},status="5xx"}} {slow}
tenfold_http_request_duration_seconds_bucket{{{labels},le="0.1"}} {requests}
tenfold_http_request_duration_seconds_bucket{{{labels},le="1.0"}} {requests + slow}
tenfold_http_request_duration_seconds_bucket{{{labels},le="+Inf"}} {requests + slow}
"""


def test_traffic_is_what_happened_between_two_pages() -> None:
    did = traffic(read(metrics(100, 0), 0.0), read(metrics(190, 10), 10.0))
    assert (did.requests_per_s, did.errors_per_s) == (10.0, 1.0)
    assert did.p50_s == pytest.approx(0.0555, abs=0.001)
    assert did.p99_s == pytest.approx(0.91)
    assert traffic(read(metrics(1, 0), 0), read(metrics(1, 0), 1)).p99_s is None


def test_a_process_that_began_anew_counts_from_its_beginning() -> None:
    assert traffic(read(metrics(1000, 0), 0.0), read(metrics(20, 0), 10.0)).requests_per_s == 2.0


def test_a_quantile_beyond_the_last_bound_is_that_bound() -> None:
    assert quantile({0.1: 1, math.inf: 100}, 0.99) == 0.1


class Listener(ThreadingHTTPServer):
    """What an operations listener would answer."""

    def __init__(self) -> None:
        self.answers: dict[str, tuple[int, bytes]] = {
            "/health/ready": (200, READY), "/metrics": (200, METRICS.encode()),
        }  # fmt: skip
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Listener

    def do_GET(self) -> None:
        status, body = self.server.answers[self.path]
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        return


@pytest.fixture
def listener() -> Iterator[Listener]:
    with Listener() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("words", "code", "line"),
    [
        (["ready"], 0, r"OK - Ready\. \| 'database'=0.0015s;;;0;"),
        (["ready", "-w", "0.001"], 1, r"WARNING - Ready, but a check is slow\."),
        (
            ["queue"],
            1,
            r"WARNING - .*waited for 75.5 s; 3 are dead\. \| 'oldest'=75.5s;60;300;0; 'ready'=12;;;0; .*'dead'=3",
        ),
        (["queue", "-c", "70"], 2, "CRITICAL - "),
        (["alerts"], 1, "WARNING - 0 pages and 2 tickets fire."),
        (
            ["metric", "--name", "tenfold_queue_messages", "--label", "state=dead", "-w", "0"],
            1,
            "WARNING - .*_mail is 3.",
        ),
        (["metric", "--name", "absent"], 3, "UNKNOWN - There is no metric absent"),
        (["metric"], 3, "UNKNOWN - --name: which metric"),
        (["metric", "--name", "a", "--label", "b"], 3, "UNKNOWN - --label"),
        (["queue", "-w", "ten"], 3, "UNKNOWN - --warning: 'ten' is no range"),
        (["everything"], 3, "UNKNOWN - "),
        (["ready", "--nonsense"], 3, "UNKNOWN - "),
        (["ready", "--timeout", "0"], 3, "UNKNOWN - "),
    ],
)
def test_a_probe_answers_by_line_and_exit_code(
    listener: Listener, capfd: pytest.CaptureFixture[str], words: list[str], code: int, line: str
) -> None:
    assert run(["probe", *words, "--url", listener.url]) == code
    assert re.match(line, capfd.readouterr().out)


def test_what_is_not_ready_is_critical_and_says_why(
    listener: Listener, capfd: pytest.CaptureFixture[str]
) -> None:
    listener.answers["/health/ready"] = (503, UNREADY)
    assert run(["probe", "--url", listener.url]) == 2
    assert capfd.readouterr().out.startswith("CRITICAL - Not ready, because of: database. |")


def test_nobody_there_is_critical_and_somebody_else_unknown(
    listener: Listener, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(["probe", "--url", "http://127.0.0.1:9"]) == 2
    listener.answers["/health/ready"] = (200, b"<html>")
    assert run(["probe", "--url", listener.url]) == 3
    listener.answers["/metrics"] = (401, b"")
    assert run(["probe", "queue", "--url", listener.url]) == 3
    assert "TENFOLD_OPS_TOKEN" in capfd.readouterr().out


def test_traffic_is_watched_for_a_while(listener: Listener, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["probe", "traffic", "--seconds", "0.05", "--url", listener.url]) == 0
    assert "0.0 requests/s, 0.0 failed/s, p99 none." in capfd.readouterr().out
