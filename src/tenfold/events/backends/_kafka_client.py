"""What all of a process's Kafka clients share: how to connect, and what their errors mean."""

from __future__ import annotations

import asyncio
import re
import uuid
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aiokafka.errors import KafkaError  # type: ignore[import-untyped]

from tenfold.errors import BrokerUnavailable, ConfigError
from tenfold.events.backends._address import Address, malformed

if TYPE_CHECKING:
    from tenfold._core.sections import EventsSettings
    from tenfold.events.contract import Feed

FORM = "kafka://[user:password@]host[:port][,host[:port]…][?partitions=12&replication=3]"
OPTIONS = ("partitions", "replication", "keep_s", "sasl", "tls", "ssl_ca_certs")
MECHANISMS = ("SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN")
NAME = re.compile(r"[A-Za-z0-9._-]{1,100}")
PARTITIONS = 12
KEEP_S = 604_800


@dataclass(frozen=True, slots=True)
class Cluster:
    """Where it is, and what topics are to be like."""

    address: Address
    prefix: str
    timeout_s: float
    redeliver_s: float
    partitions: int
    replication: int
    """-1: as the server is set."""
    keep_s: int

    @classmethod
    def from_url(cls, url: str, settings: EventsSettings) -> Cluster:
        address = Address.parse(url, form=FORM, options=OPTIONS, port=9092)
        if not NAME.fullmatch(settings.prefix):
            raise ConfigError(
                f"{settings.prefix!r} cannot begin the name of a Kafka topic.",
                where="events.prefix",
                remedy="Use letters, digits, dots, hyphens and underscores.",
            )
        address.choice("sasl", MECHANISMS)
        address.tls()
        return cls(
            address=address,
            prefix=settings.prefix,
            timeout_s=settings.timeout_s,
            redeliver_s=settings.redeliver_s,
            partitions=address.number("partitions", PARTITIONS),
            replication=address.number("replication", -1),
            keep_s=address.number("keep_s", KEEP_S),
        )

    def topic(self, name: str) -> str:
        """The name at the server of a topic of ours."""
        full = f"{self.prefix}.{name}"
        if len(full) > 249:
            raise malformed(
                f"with events.prefix, the topic {name} gets a name of more than 249 characters", ""
            )
        return full

    def group(self, feed: Feed) -> str:
        """The consumer group of a subscription."""
        return f"{self.prefix}.{feed.name}"

    def options(self) -> dict[str, Any]:
        """What each of the library's classes takes."""
        address = self.address
        tls = address.tls()
        options: dict[str, Any] = {
            "bootstrap_servers": list(address.hosts),
            "client_id": f"tenfold-{uuid.uuid4().hex[:8]}",
            "request_timeout_ms": max(1, int(self.timeout_s * 1000)),
            "security_protocol": ("SASL_" if address.user else "") + ("SSL" if tls else "PLAINTEXT"),
            "ssl_context": tls,
            # A topic that was made, moved or wiped elsewhere is noticed after so long at the latest.
            "metadata_max_age_ms": 15_000,
        }
        if address.user:
            options |= {
                "sasl_mechanism": address.choice("sasl", MECHANISMS),
                "sasl_plain_username": address.user,
                "sasl_plain_password": address.password,
            }
        return options

    def unavailable(self, what: str) -> BrokerUnavailable:
        """A sentence that says which server."""
        return BrokerUnavailable(f"Kafka at {self.address} (events.url) {what}.")

    @contextmanager
    def translated(self) -> Generator[None]:
        """The library's errors as ours. Only what calls the server goes inside."""
        try:
            yield
        except TimeoutError:
            raise self.unavailable(f"did not answer within {self.timeout_s:g} s") from None
        except KafkaError as error:
            raise self.unavailable(f"does not serve us: {describe(error)}") from error
        except OSError as error:
            raise self.unavailable(f"cannot be reached: {error}") from error


def describe(error: BaseException) -> str:
    """An error of the library in words; some of them carry none."""
    text = str(error).strip()
    return text if text else type(error).__name__


async def quietly(*steps: Any, within_s: float) -> None:
    """Close what may be in any state. Nothing of it is needed any more, so its errors tell nobody anything."""
    for step in steps:
        try:
            async with asyncio.timeout(within_s):
                await step
        except (KafkaError, OSError, TimeoutError, asyncio.InvalidStateError):
            continue
