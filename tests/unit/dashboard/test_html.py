"""Text is escaped wherever it lands; only what says that it is HTML goes out as it is."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tenfold.dashboard import ui
from tenfold.dashboard.html import EMPTY, Html, join, raw, tag


@given(st.text())
def test_text_never_opens_an_element_or_ends_an_attribute(text: str) -> None:
    made = tag("p", text, title=text)
    assert made.count("<") == 2
    assert made.count('"') == 2


def test_html_inside_html_is_not_escaped_again() -> None:
    assert (
        tag("p", tag("b", "<x>"), " & ", [1234, None, raw("<br>")])
        == "<p><b>&lt;x&gt;</b> &amp; 1,234<br></p>"
    )


def test_names_of_attributes_are_written_as_python_can() -> None:
    assert tag("input", class_="a", hx_get="/x", disabled=True, title=None, hidden=False) == (
        '<input class="a" hx-get="/x" disabled>'
    )


def test_what_stands_between_is_text() -> None:
    assert join("a", EMPTY, "b", between=" < ") == "a &lt; b"
    assert isinstance(join("a"), Html)


def test_amounts_have_three_digits_and_a_unit() -> None:
    said = [ui.duration(s) for s in (0.00034, 0.0123, 0.34, 1.25, 42, 192, 5400, 172_800)]
    assert said == ["340 µs", "12.3 ms", "340 ms", "1.25 s", "42.0 s", "3.2 min", "1.5 h", "2.0 d"]
    assert [ui.percent(s) for s in (0, 0.0005, 0.123, 1)] == ["0 %", "0.05 %", "12.3 %", "100 %"]
    assert [ui.rate(r) for r in (0, 0.2, 12.34, 1240)] == ["0/s", "0.20/s", "12.3/s", "1,240/s"]
    assert [ui.rate(r) for r in (0.0011, 0.03, 0.099)] == ["0.07/min", "1.8/min", "5.9/min"]
