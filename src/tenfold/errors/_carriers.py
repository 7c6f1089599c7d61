"""What raises that carries something elsewhere: events to a broker, mail, calls between services."""

from __future__ import annotations

from collections.abc import Mapping

from tenfold.errors._start import TenfoldError


class EventsError(TenfoldError):
    """Events could not be carried to or from the broker of ``[events] url``; the outbox keeps them."""


class BrokerUnavailable(EventsError):
    """The broker cannot be reached, is full, does not answer in time, or does not let us."""

    status = 503


class PublishFailed(EventsError):
    """The broker took some events of a batch and not others.

    ``failed`` maps positions in the batch to sentences; every event that is not in it is confirmed.
    """

    def __init__(self, failed: Mapping[int, str]) -> None:
        self.failed = dict(failed)
        first = next(iter(self.failed.values()), "")
        super().__init__(f"{len(self.failed)} events were not published; the first: {first}")


class MailError(TenfoldError):
    """A mail was not sent, or not to everybody."""


class MailUnavailable(MailError):
    """The mail server cannot be reached, did not answer in time, or asks to try again later."""

    status = 503


class MailRefused(MailError):
    """The mail server refused the mail for good; sending it again as it is cannot help."""


class CallError(TenfoldError):
    """A call between services failed in transit."""

    status = 503
