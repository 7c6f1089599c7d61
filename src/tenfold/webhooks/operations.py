"""Ready-made operations to manage endpoints over HTTP: ``orders.webhooks(placed, path="/webhooks", auth=…)``.

Who passes ``auth`` sees and changes every endpoint of the service. Times are seconds since the epoch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Protocol, TypeAlias

from msgspec import UNSET, Meta, Struct, UnsetType, field, structs

from tenfold._core.clock import Clock
from tenfold.db.database import Tx
from tenfold.errors import Conflict, InvalidInput, NotFound
from tenfold.webhooks.contract import Answer
from tenfold.webhooks.delivering import TheSender
from tenfold.webhooks.outgoing import CONCURRENCY_MAX, LOG_MAX, NewEndpoint
from tenfold.webhooks.store import ALL, Delivery, DeliveryState, Endpoint

if TYPE_CHECKING:
    from tenfold.webhooks.outgoing import Webhooks

Declare: TypeAlias = Callable[..., Callable[[Callable[..., Any]], Any]]


class Service(Protocol):
    """What is needed of a service, which stands above this package."""

    @property
    def get(self) -> Declare: ...
    @property
    def post(self) -> Declare: ...
    @property
    def patch(self) -> Declare: ...
    @property
    def delete(self) -> Declare: ...


Id = Annotated[str, Meta(min_length=1, max_length=36, description="Id of an endpoint.")]
Url = Annotated[str, Meta(min_length=1, max_length=2000, examples=["https://example.org/hooks"])]
Topics = Annotated[list[Annotated[str, Meta(max_length=255)]], Meta(min_length=1, max_length=200)]
Owner = Annotated[str, Meta(max_length=254, description="E-mail address that is told when it is disabled.")]
Concurrency = Annotated[int, Meta(ge=1, le=CONCURRENCY_MAX)]
Seconds = Annotated[float, Meta(ge=0, le=1e11, description="Seconds since the epoch.")]


class EndpointForm(Struct):
    """A new endpoint; ``topics`` are names of topics, or ``*`` for all."""

    url: Url
    topics: Topics = field(default_factory=lambda: [ALL])
    owner: Owner = ""
    concurrency: Concurrency = 4
    ordered: bool = False


class EndpointChanges(Struct):
    """What is to be changed; the rest stays."""

    url: Url | UnsetType = UNSET
    topics: Topics | UnsetType = UNSET
    owner: Owner | UnsetType = UNSET
    concurrency: Concurrency | UnsetType = UNSET
    ordered: bool | UnsetType = UNSET


class Replay(Struct):
    """Which events are to be delivered again."""

    since: Seconds
    until: Seconds | None = None
    states: Annotated[list[DeliveryState], Meta(min_length=1, max_length=4)] = field(
        default_factory=lambda: ["failed", "held"]
    )


class Begun(Struct):
    """How many deliveries were begun anew."""

    deliveries: int


def declare(service: Service, hooks: Webhooks, path: str, auth: Any) -> None:
    """Add the operations to ``service``."""
    one = f"{path}/{{endpoint_id}}"
    _declare_endpoints(service, hooks, path, one, auth)
    _declare_state(service, hooks, one, auth)
    _declare_deliveries(service, hooks, one, auth)


def _declare_endpoints(service: Service, hooks: Webhooks, path: str, one: str, auth: Any) -> None:
    @service.get(path, auth=auth)
    async def list_webhook_endpoints() -> list[Endpoint]:
        """Every webhook endpoint, oldest first."""
        return await hooks.endpoints()

    @service.post(path, auth=auth, status=201, errors=(InvalidInput, Conflict))
    async def add_webhook_endpoint(form: EndpointForm, tx: Tx) -> NewEndpoint:
        """Add an endpoint. This is the only time its secret is shown."""
        return await hooks.add(tx, **structs.asdict(form))

    @service.get(one, auth=auth, errors=(NotFound,))
    async def get_webhook_endpoint(endpoint_id: Id) -> Endpoint:
        """One endpoint, and how it is doing."""
        return await hooks.get(endpoint_id)

    @service.patch(one, auth=auth, errors=(NotFound, InvalidInput))
    async def change_webhook_endpoint(endpoint_id: Id, changes: EndpointChanges, tx: Tx) -> Endpoint:
        """Change an endpoint."""
        given = {name: value for name, value in structs.asdict(changes).items() if value is not UNSET}
        return await hooks.change(tx, endpoint_id, **given)

    @service.delete(one, auth=auth, errors=(NotFound,))
    async def remove_webhook_endpoint(endpoint_id: Id, tx: Tx) -> None:
        """Remove an endpoint with its log."""
        await hooks.remove(tx, endpoint_id)


def _declare_state(service: Service, hooks: Webhooks, one: str, auth: Any) -> None:
    @service.post(f"{one}/secret", auth=auth, errors=(NotFound,))
    async def rotate_webhook_secret(endpoint_id: Id, tx: Tx) -> NewEndpoint:
        """Make a new secret; for a day, the old one signs too."""
        return await hooks.rotate(tx, endpoint_id)

    @service.post(f"{one}/enable", auth=auth, errors=(NotFound,))
    async def enable_webhook_endpoint(endpoint_id: Id, tx: Tx) -> Endpoint:
        """Send to an endpoint again, from the next event on."""
        return await hooks.enable(tx, endpoint_id)

    @service.post(f"{one}/disable", auth=auth, errors=(NotFound,))
    async def disable_webhook_endpoint(endpoint_id: Id, tx: Tx) -> Endpoint:
        """Send nothing to an endpoint until it is enabled; events are held."""
        return await hooks.disable(tx, endpoint_id)


def _declare_deliveries(service: Service, hooks: Webhooks, one: str, auth: Any) -> None:
    @service.post(f"{one}/test", auth=auth, errors=(NotFound,), timeout_s=60.0)
    async def send_webhook_test(endpoint_id: Id, sender: TheSender) -> Answer:
        """Send a test event now, and tell what the endpoint answered."""
        return await hooks.test(endpoint_id, sender)

    @service.get(f"{one}/deliveries", auth=auth, errors=(NotFound,))
    async def list_webhook_deliveries(
        endpoint_id: Id, limit: Annotated[int, Meta(ge=1, le=LOG_MAX)] = 50
    ) -> list[Delivery]:
        """The newest deliveries to an endpoint."""
        return await hooks.log(endpoint_id, limit=limit)

    @service.post(f"{one}/replay", auth=auth, errors=(NotFound, Conflict))
    async def replay_webhooks(endpoint_id: Id, replay: Replay, clock: Clock) -> Begun:
        """Deliver again what was not delivered, or whatever states are named."""
        until = clock.now() if replay.until is None else replay.until
        return Begun(await hooks.replay(endpoint_id, replay.since, until, states=replay.states))
