"""The replay's last line, and when it agrees."""

from __future__ import annotations

from dataclasses import replace

import pytest

from shop.replay.verdict import Verdict

AGREED = Verdict(236, 4688, 236, 9302947, 236, 4688, 9302947)


def test_the_last_line_has_its_fixed_form() -> None:
    assert AGREED.line() == (
        "replay: orders=236 lines=4688 receipts=236 revenue=93029.47 ledger=93029.47 difference=0.00"
    )


def test_a_penny_short_is_a_difference() -> None:
    short = replace(AGREED, revenue=9302946)
    assert short.line().endswith("revenue=93029.46 ledger=93029.47 difference=-0.01")
    assert short.disagreements() == ["The report says £93029.46, the ledger £93029.47."]


@pytest.mark.parametrize("field", ["orders", "lines", "receipts", "revenue"])
def test_every_figure_must_agree(field: str) -> None:
    assert AGREED.disagreements() == []
    assert len(replace(AGREED, **{field: 237}).disagreements()) == 1
