"""A collector: the real one, built of OpenTelemetry's own modules, and a stand-in for it that says what it is told to say."""

from __future__ import annotations

import gzip
import os
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from support.servers import Server, free_port

CACHE = Path(os.environ.get("TENFOLD_TESTS_CACHE") or Path.home() / ".cache" / "tenfold-tests")
VERSION = "0.154.0"
PROGRAM = CACHE / f"otelcol-{VERSION}" / "otelcol"

MESSAGES: dict[str, Any] = {
    "/v1/traces": ExportTraceServiceRequest,
    "/v1/metrics": ExportMetricsServiceRequest,
    "/v1/logs": ExportLogsServiceRequest,
}


def possible() -> bool:
    """Whether scripts/collector.py has built it."""
    return PROGRAM.exists()


class Collector(Server):
    """OpenTelemetry's Collector with its OTLP receiver; what it takes, it writes to its log in full."""

    user = ""

    def prepare(self) -> None:
        (self.folder / "config.yaml").write_text(f"""
receivers: {{otlp: {{protocols: {{http: {{endpoint: "127.0.0.1:{self.port}"}}}}}}}}
exporters: {{debug: {{verbosity: detailed}}}}
service:
  telemetry: {{metrics: {{level: none}}}}
  pipelines:
    traces: {{receivers: [otlp], exporters: [debug]}}
    metrics: {{receivers: [otlp], exporters: [debug]}}
    logs: {{receivers: [otlp], exporters: [debug]}}
""")

    def command(self) -> list[str]:
        return [str(PROGRAM), "--config", f"file:{self.folder / 'config.yaml'}"]

    def said(self) -> str:
        """Everything that it has written."""
        return (self.folder / "server.log").read_text(errors="replace")


@dataclass
class StandIn:
    """Decodes requests with OpenTelemetry's own messages. ``status`` and ``answer`` are what it answers; with ``hang`` it
    does not."""

    status: int = 200
    answer: bytes = b""
    hang: bool = False
    requests: list[tuple[str, Any, dict[str, str]]] = field(default_factory=list)
    url: str = ""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        headers = {key.decode(): value.decode() for key, value in scope["headers"]}
        self.requests.append(
            (scope["path"], MESSAGES[scope["path"]].FromString(gzip.decompress(body)), headers)
        )
        if self.hang:
            await receive()
            return
        start = {
            "type": "http.response.start",
            "status": self.status,
            "headers": [(b"content-type", b"application/x-protobuf")],
        }
        await send(start)
        await send({"type": "http.response.body", "body": self.answer})

    def of(self, path: str) -> list[Any]:
        """The requests to one path."""
        return [message for where, message, _ in self.requests if where == path]

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[StandIn]:
        import asyncio

        import uvicorn

        port = free_port()
        config = uvicorn.Config(self, port=port, log_config=None, lifespan="off", timeout_graceful_shutdown=1)
        server = uvicorn.Server(config)
        server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
        task = asyncio.create_task(server._serve())
        while not server.started:  # noqa: ASYNC110 - a flag of uvicorn's
            await asyncio.sleep(0.005)
        self.url = f"http://127.0.0.1:{port}"
        yield self
        server.should_exit = True
        await task


def silent() -> tuple[socket.socket, str]:
    """A port that takes connections and says nothing; and its URL."""
    listener = socket.create_server(("127.0.0.1", 0))
    return listener, f"http://127.0.0.1:{listener.getsockname()[1]}"
