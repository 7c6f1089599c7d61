"""Silences: who wants to hear nothing of what, until when, and why. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from msgspec import Struct

from tenfold.errors import FieldError, InvalidInput
from tenfold.telemetry.alerts.rules import Alert, Labels

HOURS_MAX: Final = 24 * 14
"""No silence is longer: one that is forgotten hides the next outage."""
SILENCES_MAX: Final = 200


class Silence(Struct, frozen=True):
    """While it lasts, nobody is told of alerts that it fits; they are shown all the same."""

    id: str
    rule: str
    """Empty: every rule."""
    labels: Labels
    """All of these have to be on the alert."""
    by: str
    why: str
    since: float
    until: float

    def fits(self, alert: Alert) -> bool:
        """Whether it is about this alert."""
        return self.rule in ("", alert.rule) and set(self.labels) <= set(alert.labels)


def made(id_: str, alert: Alert | None, *, hours: str, by: str, why: str, now: float) -> Silence:
    """A silence of one alert, or of all. Raises InvalidInput for what does not fit, by field."""
    try:
        lasts = float(hours)
    except ValueError:
        lasts = 0.0
    wrong = [
        *(
            []
            if 0 < lasts <= HOURS_MAX
            else [FieldError("form", "hours", f"Hours are from above 0 to {HOURS_MAX}.")]
        ),
        *(
            []
            if 3 <= len(why.strip()) <= 500
            else [FieldError("form", "why", "Say why, for those who wonder later.")]
        ),
    ]
    if wrong:
        raise InvalidInput(errors=wrong)
    rule, labels = ("", ()) if alert is None else (alert.rule, alert.labels)
    return Silence(id_, rule, labels, by, why.strip(), now, now + lasts * 3600)


def lasting(silences: Iterable[Silence], now: float) -> list[Silence]:
    """Those that are not over, the latest :data:`SILENCES_MAX` of them. One that begins after now, since the clock was
    set back, lasts no longer than it was to."""
    kept = [s for s in silences if s.until > now and s.until - now <= (s.until - s.since) + 60]
    return kept[-SILENCES_MAX:]


def silenced(alert: Alert, silences: Iterable[Silence]) -> Silence | None:
    """The silence that fits, if any does."""
    return next((silence for silence in silences if silence.fits(alert)), None)
