"""Tenfold: the Python backend library that a team keeps from its first commit to its tenth database.

What users write with. Names are loaded when first used, so ``import tenfold`` costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tenfold._core.clock import Clock
    from tenfold._core.container import Depends, injected
    from tenfold._core.context import Context, Priority, current
    from tenfold._core.deadlines import deadline
    from tenfold._core.sections import Settings
    from tenfold.app import App
    from tenfold.cache.cache import Cache
    from tenfold.db.database import Database, Reader, Tx
    from tenfold.events.topic import Topic
    from tenfold.guard.lease import Lease, Leases
    from tenfold.guard.limiter import RateLimiter
    from tenfold.guard.rates import Limit
    from tenfold.http.files import File
    from tenfold.http.forms import Upload
    from tenfold.http.operation import Operation, ResponseCache
    from tenfold.http.params import Body, Cookie, Form, Header, Path, Query
    from tenfold.http.reply import Redirect, Reply, Response
    from tenfold.http.request import Request
    from tenfold.http.stream import Event, EventStream, Stream
    from tenfold.http.websocket import WebSocket
    from tenfold.jobs.batch import batch
    from tenfold.jobs.call import chain, group
    from tenfold.jobs.flow import Flow
    from tenfold.jobs.groups import BatchStatus
    from tenfold.jobs.handle import JobStatus
    from tenfold.jobs.job import Job
    from tenfold.mail.mailer import Mailer
    from tenfold.queue.context import JobContext, current_job
    from tenfold.queue.retry import Retry
    from tenfold.schedules.schedule import Tick
    from tenfold.security.accounts import Accounts
    from tenfold.security.authenticator import Authenticator
    from tenfold.security.objects import ensure, own
    from tenfold.security.policy import authenticated, public, roles, scopes
    from tenfold.security.principal import Principal
    from tenfold.service import Service

__version__ = "0.1.0"

_HOMES = {
    "Accounts": "security.accounts",
    "App": "app",
    "Authenticator": "security.authenticator",
    "BatchStatus": "jobs.groups",
    "Body": "http.params",
    "Cache": "cache.cache",
    "Clock": "_core.clock",
    "Context": "_core.context",
    "Cookie": "http.params",
    "Database": "db.database",
    "Depends": "_core.container",
    "Event": "http.stream",
    "EventStream": "http.stream",
    "File": "http.files",
    "Flow": "jobs.flow",
    "Form": "http.params",
    "Header": "http.params",
    "Job": "jobs.job",
    "JobContext": "queue.context",
    "JobStatus": "jobs.handle",
    "Lease": "guard.lease",
    "Leases": "guard.lease",
    "Limit": "guard.rates",
    "Mailer": "mail.mailer",
    "Operation": "http.operation",
    "Path": "http.params",
    "Principal": "security.principal",
    "Priority": "_core.context",
    "Query": "http.params",
    "RateLimiter": "guard.limiter",
    "Reader": "db.database",
    "Redirect": "http.reply",
    "Reply": "http.reply",
    "Request": "http.request",
    "Response": "http.reply",
    "ResponseCache": "http.operation",
    "Retry": "queue.retry",
    "Service": "service",
    "Settings": "_core.sections",
    "Stream": "http.stream",
    "Tick": "schedules.schedule",
    "Topic": "events.topic",
    "Tx": "db.database",
    "Upload": "http.forms",
    "WebSocket": "http.websocket",
    "authenticated": "security.policy",
    "batch": "jobs.batch",
    "chain": "jobs.call",
    "current": "_core.context",
    "current_job": "queue.context",
    "deadline": "_core.deadlines",
    "ensure": "security.objects",
    "group": "jobs.call",
    "injected": "_core.container",
    "own": "security.objects",
    "public": "security.policy",
    "roles": "security.policy",
    "scopes": "security.policy",
}

__all__ = [
    "Accounts",
    "App",
    "Authenticator",
    "BatchStatus",
    "Body",
    "Cache",
    "Clock",
    "Context",
    "Cookie",
    "Database",
    "Depends",
    "Event",
    "EventStream",
    "File",
    "Flow",
    "Form",
    "Header",
    "Job",
    "JobContext",
    "JobStatus",
    "Lease",
    "Leases",
    "Limit",
    "Mailer",
    "Operation",
    "Path",
    "Principal",
    "Priority",
    "Query",
    "RateLimiter",
    "Reader",
    "Redirect",
    "Reply",
    "Request",
    "Response",
    "ResponseCache",
    "Retry",
    "Service",
    "Settings",
    "Stream",
    "Tick",
    "Topic",
    "Tx",
    "Upload",
    "WebSocket",
    "__version__",
    "authenticated",
    "batch",
    "chain",
    "current",
    "current_job",
    "deadline",
    "ensure",
    "group",
    "injected",
    "own",
    "public",
    "roles",
    "scopes",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'tenfold' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"tenfold.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
