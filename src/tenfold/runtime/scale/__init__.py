"""How many instances of a role are wanted: what is measured, what is expected, what is decided, and why."""

from __future__ import annotations

from tenfold.runtime.scale.policy import Decision, Sample, Scaler

__all__ = ["Decision", "Sample", "Scaler"]
