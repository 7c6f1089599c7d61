"""Jobs: functions that run later, once their transaction has committed."""

from __future__ import annotations

from tenfold.jobs.handle import JobHandle, JobStatus
from tenfold.jobs.job import Job
from tenfold.queue.context import JobContext, current_job
from tenfold.queue.retry import Retry

__all__ = ["Job", "JobContext", "JobHandle", "JobStatus", "Retry", "current_job"]
