"""What raises that carries something elsewhere: events to a broker, mail, calls between services."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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
    """A call between services, or out of the app, failed.

    ``dependency`` is the name of the client (or service) that was called, as it was declared.
    """

    status = 503

    def __init__(self, message: str, *, dependency: str = "") -> None:
        self.dependency = dependency
        super().__init__(message)


class DependencyUnavailable(CallError):
    """What was called cannot be reached, breaks off, or is left alone for a while because it did not answer before.

    ``reason`` is one word: ``breaker`` (open after too many failures), ``places`` (too many calls under way),
    ``connect``, ``broken`` or ``status`` (it said 429 or 503 itself). ``retry_after_s`` says when it makes sense to
    come back, ``limit`` which limit of ours it was, if any. The answer to a client has both.
    """

    def __init__(
        self,
        message: str,
        *,
        dependency: str = "",
        reason: str = "",
        retry_after_s: float = 1.0,
        limit: str = "",
    ) -> None:
        self.reason, self.retry_after_s, self.limit = reason, retry_after_s, limit
        super().__init__(message, dependency=dependency)


class DependencyTimeout(CallError):
    """What was called did not answer in time. It may have done what it was asked for."""

    status = 504


class DependencyFailed(CallError):
    """What was called answered with a status that is no success. ``code`` is it, ``answer`` the whole answer."""

    status = 502

    def __init__(self, message: str, *, dependency: str = "", code: int = 0, answer: Any = None) -> None:
        self.code, self.answer = code, answer
        super().__init__(message, dependency=dependency)


class BadAnswer(CallError):
    """What was called answered with something that cannot be used: it does not fit the type that was asked for, is larger
    than allowed, or breaks a rule of HTTP. ``path`` is the field that does not fit, where there is one."""

    status = 502

    def __init__(self, message: str, *, dependency: str = "", path: str = "") -> None:
        self.path = path
        super().__init__(message, dependency=dependency)


class AddressRefused(CallError):
    """The URL, or the address that its name stands for, is one where calls out may not go. Nothing was sent."""

    status = 502
