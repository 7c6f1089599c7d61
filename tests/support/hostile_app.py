"""What hostile clients are let loose on, in the test's own process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from tenfold import Request, Response, Service, Stream, Upload, WebSocket, public

service = Service("hostile", auth=public)
made: dict[str, int] = {}

HEAD = b"Host: x\r\n"
GET = b"GET /plain HTTP/1.1\r\nHost: x\r\n\r\n"
CHUNKED = b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
JSON = b"Content-Type: application/json\r\n"


@service.get("/plain")
async def plain() -> int:
    return 1


@service.get("/find/{name}")
async def find(name: str, q: str = "") -> str:
    return name + q


@service.post("/echo", status=200)
async def echo(request: Request) -> int:
    return len(await request.body())


@service.post("/tree", status=200)
async def tree(body: dict[str, Any]) -> int:
    return len(body)


@service.post("/upload", status=200)
async def upload(file: Upload) -> int:
    return file.size


@service.get("/large")
async def large(kib: int) -> Response:
    return Response(bytes(1024 * kib))


@service.get("/endless")
async def endless() -> Stream:
    async def pieces() -> AsyncIterator[bytes]:
        made["pieces"], made["ended"] = 0, 0
        try:
            while True:
                made["pieces"] += 1
                yield bytes(16_384)
        finally:
            made["ended"] = 1

    return Stream(pieces())


@service.websocket("/flood", auth=public)
async def flood(socket: WebSocket) -> None:
    made["sent"], made["gone"] = 0, 0
    try:
        while True:
            await socket.send_bytes(bytes(16_384))
            made["sent"] += 1
    finally:
        made["gone"] = 1


@service.websocket("/listen", auth=public)
async def listen(socket: WebSocket) -> None:
    async for _ in socket.messages():
        pass
