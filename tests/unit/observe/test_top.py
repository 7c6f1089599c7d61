"""``tenfold top``: what it draws of pages of metrics, and what it says of instances that do not answer."""

from __future__ import annotations

import pytest
from rich.console import Console

from tenfold.cli.program import run
from tenfold.observe.reading import read
from tenfold.observe.screen import Seen, screen, spark


def page(requests: int, bad: int) -> str:
    of = 'operation="orders.show",method="GET",route="/"'
    slo = 'operation="orders.show",objective="99% under 1s"'
    return f"""tenfold_http_requests_total{{{of},status="2xx"}} {requests}
tenfold_http_requests_total{{{of},status="5xx"}} {bad}
tenfold_http_request_duration_seconds_bucket{{{of},le="0.1"}} {requests}
tenfold_http_request_duration_seconds_bucket{{{of},le="+Inf"}} {requests + bad}
tenfold_slo_requests_total{{{slo}}} {requests + bad}
tenfold_slo_bad_requests_total{{{slo}}} {bad}
tenfold_queue_messages{{queue="mail",state="dead"}} 3
tenfold_alerts{{state="firing",severity="page"}} 1
process_cpu_seconds_total {requests / 1000}
process_resident_memory_bytes 104857600
"""


def drawn(*instances: Seen, rows: int = 50, width: int = 160) -> str:
    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(screen("shop", instances, [0, 4, 8], rows=rows, width=width))
    return console.export_text()


def test_two_instances_are_shown_by_themselves_and_together() -> None:
    one = Seen("web.1", read(page(0, 0), 0.0), read(page(90, 10), 10.0))
    two = Seen("web.2", read(page(0, 0), 0.0), read(page(20, 0), 10.0))
    text = drawn(one, two)
    assert "shop  12.0 requests/s  1.0 failed/s  ▁▅█  2 of 2 instances" in text
    rows = {line.split()[0]: line.split() for line in text.splitlines() if line.strip()}
    assert rows["web.1"][1:3] == ["10.0", "1.0"]
    assert rows["web.2"][1:3] == ["2.0", "0.0"]
    assert "100 MiB" in text
    assert rows["orders.show"][1] == "12.0"
    assert "8.33% of 99% under 1s" in text
    assert "3 dead" in text


def test_an_instance_that_does_not_answer_is_named_with_the_reason() -> None:
    one = Seen("web.1", read(page(0, 0), 0.0), read(page(10, 0), 10.0))
    text = drawn(one, Seen("web.2", error="Connection refused"))
    assert "1 of 2 instances" in text
    assert "web.2 does not answer: Connection refused" in text


def test_a_narrow_terminal_shows_fewer_numbers_and_each_of_them_whole() -> None:
    text = drawn(Seen("127.0.0.1:8001", read(page(0, 0), 0.0), read(page(90, 10), 10.0)), width=80)
    assert "…" not in text
    assert "lag p99" not in text
    assert "100 MiB" in text


def test_operations_beyond_the_screen_are_counted() -> None:
    lines = "".join(
        f'tenfold_http_requests_total{{operation="a.o{n}",status="2xx"}} {n}\n' for n in range(30)
    )
    text = drawn(Seen("web.1", read("", 0.0), read(lines, 1.0)), rows=5)
    assert "a.o29" in text
    assert "and 25 more" in text
    assert "a.o3 " not in text


def test_a_line_of_blocks_is_as_high_as_its_highest_value() -> None:
    assert spark([0, 1, 2, 4]) == "▁▃▅█"
    assert spark([0, 0]) == "▁▁"


def test_where_nobody_answers_the_exit_code_says_so(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["top", "--once", "--every", "0.1", "--url", "http://127.0.0.1:9"]) == 1
    assert "Connection refused" in capfd.readouterr().out
    assert run(["top", "--url", "localhost:8001"]) == 2
    assert "--url: 'localhost:8001' is no URL" in capfd.readouterr().err
