"""A registry as Prometheus reads it: text format 0.0.4, or OpenMetrics where the scraper asks for it.

The only file that knows prometheus-client, which is imported at the first scrape. What libraries registered
with prometheus-client's own default registry is shown too, and with it process, garbage collector and platform
metrics.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from tenfold.telemetry.metrics import Family, Registry

if TYPE_CHECKING:
    from prometheus_client import Metric


class Exposition:
    """Renders ``registry``; with ``process``, the default registry of prometheus-client as well."""

    def __init__(self, registry: Registry, *, process: bool = True) -> None:
        self._registry, self._process = registry, process

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """The document and its content type, as the ``Accept`` header wishes."""
        from prometheus_client.exposition import choose_encoder

        encode, content_type = choose_encoder(accept)
        return encode(self), content_type

    def collect(self) -> Iterator[Metric]:
        """Families in prometheus-client's terms: what its encoders ask a registry for."""
        from prometheus_client import REGISTRY

        seen: set[str] = set()
        for family in self._registry.collect():
            seen.add(family.name)
            yield _convert(family)
        if self._process:
            # A name that both have would make the whole document invalid; ours wins.
            yield from (metric for metric in REGISTRY.collect() if metric.name not in seen)


def _convert(family: Family) -> Metric:
    from prometheus_client import Metric

    metric = Metric(family.name, family.help, family.kind)
    for suffix, labels, value in family.samples:
        metric.add_sample(family.name + suffix, labels, value)
    return metric
