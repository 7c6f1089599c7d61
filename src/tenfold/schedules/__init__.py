"""Schedules: functions that run on a cron expression or an interval, once per tick in the whole fleet."""

from __future__ import annotations

from tenfold.schedules.schedule import Schedule, Tick
from tenfold.schedules.ticker import Ticker

__all__ = ["Schedule", "Tick", "Ticker"]
