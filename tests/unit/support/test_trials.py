from __future__ import annotations

from support.trials import Trials, lines, soak


def test_trials_are_summed_by_guarantee_and_place(trials: Trials) -> None:
    found = [
        ("trials", [g, n, w])
        for g, n, w in [("G10", 5, "redis"), ("G4", 1_000, "sqlite"), ("G4", 2, "sqlite")]
    ]
    assert lines([*found, ("other", "x")]) == ["G4: sqlite 1,002", "G10: redis 5"]


def test_a_share_of_a_long_setting_is_never_nothing() -> None:
    assert soak(0) == 1
