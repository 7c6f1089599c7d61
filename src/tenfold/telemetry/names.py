"""Every name that leaves the process: metrics, labels, spans, log events. One file, so that a dashboard, an
alert rule and the code cannot drift apart.

Metrics follow Prometheus' conventions (base units, ``_total`` on counters, ``_seconds``, ``_bytes``); spans and
their attributes OpenTelemetry's semantic conventions where one exists; log events are short sentences in the
past tense, so that text logs read as prose and JSON logs can be counted by ``event``.
"""

from __future__ import annotations

from typing import Final

# ── labels ────────────────────────────────────────────────────────────────────────────────────────

OPERATION: Final = "operation"
METHOD: Final = "method"
ROUTE: Final = "route"
STATUS: Final = "status"
DATABASE: Final = "database"
CACHE: Final = "cache"
QUEUE: Final = "queue"
HANDLER: Final = "handler"
TOPIC: Final = "topic"
KIND: Final = "kind"
OUTCOME: Final = "outcome"
METRIC: Final = "metric"
REASON: Final = "reason"
PRIORITY: Final = "priority"
TENANT: Final = "tenant"
CHECK: Final = "check"
CLIENT: Final = "client"
HOST: Final = "host"
CALLER: Final = "caller"
OBJECTIVE: Final = "objective"

OTHER: Final = "other"
"""Label value of everything beyond the cardinality bound."""

# ── metrics: HTTP ─────────────────────────────────────────────────────────────────────────────────

HTTP_REQUESTS: Final = "tenfold_http_requests_total"
HTTP_DURATION: Final = "tenfold_http_request_duration_seconds"
HTTP_IN_FLIGHT: Final = "tenfold_http_requests_in_flight"
HTTP_SHED: Final = "tenfold_http_requests_shed_total"
SLO_REQUESTS: Final = "tenfold_slo_requests_total"
SLO_BAD: Final = "tenfold_slo_bad_requests_total"
ADMISSION: Final = "tenfold_admission"
CONNECTIONS: Final = "tenfold_connections"
BULKHEAD: Final = "tenfold_bulkhead"
OVERRIDES: Final = "tenfold_overrides"
LOOP_BLOCKED: Final = "tenfold_loop_blocked_total"
LOOP_LAG: Final = "tenfold_loop_lag_seconds"

# ── metrics: database, cache, queue ───────────────────────────────────────────────────────────────

DB_STATEMENTS: Final = "tenfold_db_statements_total"
DB_TIMED: Final = "tenfold_db_statements_timed_total"
DB_TIMED_SECONDS: Final = "tenfold_db_statements_timed_seconds_total"
DB_TRANSACTIONS: Final = "tenfold_db_transactions_total"
DB_TRANSACTION_DURATION: Final = "tenfold_db_transaction_duration_seconds"
DB_COMMITS: Final = "tenfold_db_commits_total"
DB_WRITER_WAITERS: Final = "tenfold_db_writer_waiters"
CACHE_NUMBERS: Final = "tenfold_cache"
CACHE_STORE: Final = "tenfold_cache_store"
CACHE_REQUESTS: Final = "tenfold_cache_requests_total"
CACHE_LOADS: Final = "tenfold_cache_loads_total"
CACHE_ENTRIES: Final = "tenfold_cache_entries"
CACHE_INVALIDATIONS: Final = "tenfold_cache_invalidations_total"
LIMIT_NUMBERS: Final = "tenfold_limit"
IDEMPOTENCY: Final = "tenfold_idempotency_total"
QUEUE_MESSAGES: Final = "tenfold_queue_messages"
QUEUE_OLDEST: Final = "tenfold_queue_oldest_ready_seconds"
QUEUE_HANDLED: Final = "tenfold_queue_handled_total"
QUEUE_DURATION: Final = "tenfold_queue_handle_duration_seconds"
QUEUE_WAIT: Final = "tenfold_queue_wait_duration_seconds"
EVENTS_UNSENT: Final = "tenfold_events_unsent"
EVENTS_OLDEST: Final = "tenfold_events_oldest_unsent_seconds"
SCHEDULE_TICKS: Final = "tenfold_schedule_ticks_total"
CALLS: Final = "tenfold_calls_total"
CALL_DURATION: Final = "tenfold_call_duration_seconds"
CALLS_REFUSED: Final = "tenfold_service_calls_refused_total"
IDENTITY: Final = "tenfold_identity"
MAILS: Final = "tenfold_mails_total"
LOGINS: Final = "tenfold_logins_total"

# ── metrics: calls out ────────────────────────────────────────────────────────────────────────────

CLIENT_REQUESTS: Final = "tenfold_client_requests_total"
CLIENT_DURATION: Final = "tenfold_client_request_duration_seconds"
CLIENT_RETRIES: Final = "tenfold_client_retries_total"
CLIENT_HEDGES: Final = "tenfold_client_hedges_total"
CLIENT_REFUSED: Final = "tenfold_client_refused_total"
CLIENT_BREAKER: Final = "tenfold_client_breaker_state"
CLIENT_IN_FLIGHT: Final = "tenfold_client_in_flight"
CLIENT_WAITING: Final = "tenfold_client_waiting"
CLIENT_BUDGET: Final = "tenfold_client_retry_budget"

# ── metrics: telemetry itself ─────────────────────────────────────────────────────────────────────

BUILD_INFO: Final = "tenfold_build_info"
METRIC_OVERFLOW: Final = "tenfold_metric_overflow_total"
METRIC_FAILURES: Final = "tenfold_metric_callback_failures_total"
LOG_DROPPED: Final = "tenfold_log_lines_dropped"
SPANS_DROPPED: Final = "tenfold_spans_dropped"
OTLP: Final = "tenfold_otlp"
TELEMETRY_DROPPED: Final = "tenfold_telemetry_dropped"
HEALTH: Final = "tenfold_health"
ALERTS: Final = "tenfold_alerts"

# ── spans ─────────────────────────────────────────────────────────────────────────────────────────

SPAN_REQUEST: Final = "http.server"
SPAN_CALL: Final = "rpc.call"
SPAN_CALL_OUT: Final = "http.client"
SPAN_DB_STATEMENT: Final = "db.statement"
SPAN_DB_COMMIT: Final = "db.commit"
SQL: Final = "db.query.text"
"""The attribute with the statement."""
SPAN_CACHE_LOAD: Final = "cache.load"
SPAN_ENQUEUE: Final = "queue.enqueue"
SPAN_JOB: Final = "job.run"
SPAN_EVENT: Final = "event.deliver"
SPAN_TICK: Final = "schedule.tick"
SPAN_MAIL: Final = "mail.send"

# ── log events ────────────────────────────────────────────────────────────────────────────────────

LOG_REQUEST: Final = "request"
LOG_STARTED: Final = "app started"
LOG_STOPPED: Final = "app stopped"
LOG_DRAINING: Final = "draining"
LOG_HANDLER_FAILED: Final = "operation failed"
LOG_LOOP_BLOCKED: Final = "event loop was blocked"
LOG_JOB_FAILED: Final = "job failed"
LOG_JOB_DEAD: Final = "job died"
LOG_EVENT_FAILED: Final = "event delivery failed"
LOG_MESSAGE_PARKED: Final = "message parked"
LOG_CALL_REFUSED: Final = "call of a service refused"
LOG_LEASE_LOST: Final = "lease lost"
LOG_MIGRATED: Final = "database migrated"
LOG_THREAD_DIED: Final = "thread died of an exception"
LOG_GAUGE_FAILED: Final = "metric callback failed"
LOG_EXPORT_FAILED: Final = "spans could not be exported"
LOG_ALERTS_FAILED: Final = "alerts were not looked at"
LOG_ALERTS_UNTOLD: Final = "nobody could be told of alerts"
LOG_OTLP_LOST: Final = "telemetry was lost on its way to the collector"
LOG_OPERATED: Final = "operator acted"
LOG_SIGNED_IN: Final = "operator signed in"
LOG_NOT_SIGNED_IN: Final = "nobody signed in"
