import django
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpRequest, HttpResponse
from django.urls import path
from starlette.applications import Starlette
from starlette.routing import Mount

from mounting.notes import app

# A Django project has these in its settings.py and urls.py.
settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="for the example only")
django.setup()


async def hello(request: HttpRequest) -> HttpResponse:
    return HttpResponse("This is Django.")


urlpatterns = [path("hello", hello)]

# asgi.py: Django knows neither mounts nor lifespan, so a Starlette router stands before both.
application = Starlette(
    routes=[Mount("/api", app), Mount("/", get_asgi_application())],
    lifespan=app.lifespan,
)
