"""What a client may be told, with the defaults; settings go over what is declared."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import asdict, replace
from typing_extensions import TypedDict

from tenfold.errors import DeclarationError
from tenfold.guard.breaker import BreakerRules

if TYPE_CHECKING:
    from tenfold._core.sections import ClientSettings


class Options(Struct, frozen=True, kw_only=True):
    """Times are seconds, sizes bytes. Raises :class:`DeclarationError` for what could not work."""

    timeout_s: float = 10.0
    """A call with all its tries takes no longer than this, and no longer than its caller's deadline. Of a stream: until
    its head is there."""
    connect_timeout_s: float = 2.0
    """For the look-up of the name and the connection together, and once more for TLS."""
    read_timeout_s: float | None = None
    """Longest silence within an answer. Default: ``timeout_s``."""
    concurrency: int = 64
    """Calls under way at a time in this process."""
    concurrency_per_host: int | None = None
    """The same for each host. Default: as many as in all."""
    waiting_max: int = 64
    """So many more may wait for a place …"""
    wait_s: float = 0.5
    """… and no longer than this; then the call is refused."""
    attempts: int = 3
    """Tries of one call at most. Second tries need an idempotent call, or that nothing was sent."""
    retry_base_s: float = 0.05
    retry_max_s: float = 2.0
    """A wait before a second try is drawn between 0 and a bound, which begins with ``retry_base_s`` and doubles up to
    ``retry_max_s``; and it is not shorter than the ``Retry-After`` of the answer."""
    retry_share: float = 0.1
    """Second tries (and hedges) of all calls together are at most this share of the first ones. 0: none."""
    hedge_share: float = 0.0
    """A GET or HEAD that takes longer than 95 % of them do is sent once more, and the first answer counts; at most for
    this share of them. Default: not done, since it costs calls: 0.05 is a good value."""
    redirects_max: int = 0
    """Redirects that a GET or HEAD follows. Default: none; where one leads, is checked like any other URL."""
    answer_max_bytes: int = 8_388_608
    """Largest body that is read, unpacked."""
    download_max_bytes: int = 1_073_741_824
    """The same for a body that is streamed."""
    breaker: bool = True
    """Leave a host alone for a while when half of at least ten calls in ten seconds failed."""
    breaker_open_max_s: float = 5.0
    """Longest while."""
    ours: bool = False
    """The other side is a backend of ours: the causal token, the request id and who calls go along."""

    def __post_init__(self) -> None:
        for name in _ABOVE_ZERO:
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise DeclarationError(f"{name} is {value:g}; it has to be more than 0.", where="client")
        for name in ("waiting_max", "redirects_max", "wait_s", "retry_base_s", "retry_max_s"):
            if getattr(self, name) < 0:
                raise DeclarationError(f"{name} is negative.", where="client")
        for name in ("retry_share", "hedge_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise DeclarationError(f"{name} is a share, from 0 to 1.", where="client")

    @property
    def silence_s(self) -> float:
        """Longest silence within an answer."""
        return self.timeout_s if self.read_timeout_s is None else self.read_timeout_s

    @property
    def per_host(self) -> int:
        """Calls to one host at a time."""
        return self.concurrency if self.concurrency_per_host is None else self.concurrency_per_host

    @property
    def rules(self) -> BreakerRules:
        """Of the breakers."""
        longest = self.breaker_open_max_s
        return BreakerRules(open_s=min(1.0, longest), open_max_s=longest)

    def over(self, settings: ClientSettings | None) -> Options:
        """These with what the settings say."""
        if settings is None:
            return self
        said = {name: value for name, value in asdict(settings).items() if value is not None}
        return replace(self, **{name: said[name] for name in said if name in self.__struct_fields__})


_ABOVE_ZERO = (
    "timeout_s", "connect_timeout_s", "read_timeout_s", "concurrency", "concurrency_per_host", "attempts",
    "answer_max_bytes", "download_max_bytes", "breaker_open_max_s",
)  # fmt: skip


class ClientOptions(TypedDict, total=False):
    """The keywords of :meth:`Service.http`; see :class:`Options` for each."""

    timeout_s: float
    connect_timeout_s: float
    read_timeout_s: float | None
    concurrency: int
    concurrency_per_host: int | None
    waiting_max: int
    wait_s: float
    attempts: int
    retry_base_s: float
    retry_max_s: float
    retry_share: float
    hedge_share: float
    redirects_max: int
    answer_max_bytes: int
    download_max_bytes: int
    breaker: bool
    breaker_open_max_s: float
    ours: bool
