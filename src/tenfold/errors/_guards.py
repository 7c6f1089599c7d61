"""What limits, leases, idempotency keys and sessions raise."""

from __future__ import annotations

from tenfold.errors._start import TenfoldError


class GuardError(TenfoldError):
    """A limit, a lease, an idempotency key or a session could not be had."""

    status = 503


class StoreUnavailable(GuardError):
    """The store behind ``[guard] url`` cannot be reached, or does not answer in time."""


class LeaseTaken(GuardError):
    """Somebody else holds the lease, and did not let go for as long as was waited."""


class LeaseEnded(GuardError):
    """The lease ran out, or another took it, before the work that it protects was done."""
