"""A server in a process of its own, whose memory and time can be read: ``python hostile_server.py DIR KEY=VALUE …``.

Says its port in a line, and serves until its standard input ends.
"""

from __future__ import annotations

import asyncio
import json
import sys

import uvloop

from tenfold import App, Request, Response, Service, public
from tenfold.runtime import listeners
from tenfold.runtime.listeners import UvicornListener

service = Service("hostile", auth=public)


@service.get("/plain")
async def plain() -> int:
    return 1


@service.post("/echo", status=200, body_max_bytes=4_194_304)
async def echo(request: Request) -> int:
    return len(await request.body())


@service.get("/large")
async def large() -> Response:
    return Response(bytes(300_000))


async def main(folder: str, *settings: str) -> None:
    app = App("hostile", [service])
    named = dict(each.split("=", 1) for each in settings)
    app.configure(
        environ={}, app__data_dir=folder, **{name: json.loads(value) for name, value in named.items()}
    )
    sock = listeners.bind("127.0.0.1", 0, where="http.port")
    await app.start(worker=False)
    listener = UvicornListener(app, sock, drain_s=1)
    await listener.start()
    print(sock.getsockname()[1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await listener.stop()
    await app.stop()


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:]))
