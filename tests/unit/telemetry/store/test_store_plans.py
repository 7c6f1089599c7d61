"""Every question takes the index that was meant, and none sorts or walks what is kept: counted in steps of SQLite's
virtual machine, which do not depend on the machine.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.telemetry_questions import QUESTIONS, Heard, Question, walks
from support.telemetry_store import Kept, filled
from tenfold.telemetry.store import pages
from tenfold.telemetry.store.file import StoreFile
from tenfold.telemetry.store.records import RequestFilter

ROWS = 20_000


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kept]:
    made = Kept(tmp_path_factory.mktemp("plans"))
    filled(made, requests=ROWS, jobs=ROWS // 10)
    yield made
    made.close()


def steps_of(kept: Kept, question: Question, monkeypatch: pytest.MonkeyPatch) -> int:
    """Steps of SQLite's virtual machine that the answer took, to the next hundred."""
    steps = 0
    opened = StoreFile._connected

    def counted(file: StoreFile) -> object:
        db = opened(file)

        def count() -> bool:
            nonlocal steps
            steps += 100
            return False

        db.set_progress_handler(count, 100)
        return db

    monkeypatch.setattr(StoreFile, "_connected", counted)
    assert kept.ask(question)
    return steps


@pytest.mark.parametrize("name", QUESTIONS)
def test_a_question_takes_few_steps_among_many_rows(
    kept: Kept, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    question, most = QUESTIONS[name]
    assert steps_of(kept, question, monkeypatch) <= most


def test_what_has_no_index_looks_at_a_bounded_number_of_rows(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "LOOKED_AT_MAX", 2_000)
    steps = steps_of(kept, lambda r: r.requests(RequestFilter(tenant="nobody")), monkeypatch)
    assert steps <= 2_000 * 40
    page = kept.ask(lambda r: r.requests(RequestFilter(tenant="nobody")))
    assert page.items == []
    assert page.before


def test_a_question_that_walks_everything_would_be_found_out(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broken variant: the sought id is compared with every row's."""
    walked = steps_of(kept, lambda r: r.requests(RequestFilter(path="/nowhere")), monkeypatch)
    assert walked > 10 * QUESTIONS["one by its id"][1]


def test_no_question_walks_through_what_is_kept_as_the_planner_says(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = Heard(monkeypatch)
    for question, _ in QUESTIONS.values():
        kept.ask(question)
    assert len(heard.statements) > len(QUESTIONS)
    assert heard.walks(kept.writer._file) == {}


def test_a_statement_without_an_index_is_named_by_the_planner(kept: Kept) -> None:
    """The broken variant of that check."""
    assert walks(kept.writer._file, "SELECT count(*) FROM request WHERE tenant = ?", ("t1",)) == [
        "SCAN request"
    ]
    assert walks(kept.writer._file, "SELECT id FROM trace_spans WHERE body = ?", ("",)) == [
        "SCAN trace_spans"
    ]
