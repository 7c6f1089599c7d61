from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from mounting.notes import app


async def hello(request: Request) -> PlainTextResponse:
    return PlainTextResponse("This is Starlette.")


site = Starlette(
    routes=[Route("/hello", hello), Mount("/api", app)],
    lifespan=app.lifespan,
)
