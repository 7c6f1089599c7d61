"""The section of ``tenfold.toml`` about what telemetry the app keeps by itself."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct


class TelemetrySettings(Struct, frozen=True, forbid_unknown_fields=True):
    """[telemetry]: what the app keeps of requests, jobs, traces, metrics and log lines, for its own pages"""

    store: bool | None = None
    """Keep them in ``data_dir/telemetry.sqlite``. Default: yes where ``tenfold`` runs the app, no where another framework
    does."""
    keep_mb: Annotated[int, Meta(ge=16, le=65_536)] = 256
    """Size of that file, in MiB, at which the oldest go."""
    keep_days: Annotated[float, Meta(gt=0, le=400)] = 7.0
    """What is older goes, too."""
    requests_per_s: Annotated[int, Meta(ge=0, le=10_000)] = 200
    """Requests, and runs of jobs, that are kept one by one in a second, of each process. Of more, a fair sample is; and up to
    as many again of those that failed or were slow. Metrics count all of them. 0: none."""
    traces_per_s: Annotated[int, Meta(ge=0, le=1000)] = 20
    """Requests and runs that are recorded step by step in a second, of each process, to be kept if they turn out slow or
    failed. 0: only those that ``trace.ratio`` samples, and callers ask for."""
    logs_per_s: Annotated[int, Meta(ge=0, le=10_000)] = 100
    """Log lines that are kept in a second, of each process; ten times as many at once."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Lines less severe are not kept. Nor are those that ``log.level`` leaves out."""
