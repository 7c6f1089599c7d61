"""How a service declares webhooks, in and out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from tenfold.errors import DeclarationError
from tenfold.events.topic import Topic
from tenfold.guard.rates import Limit
from tenfold.http.operation import UNSET
from tenfold.queue.retry import Retry
from tenfold.service.operations import Operations

if TYPE_CHECKING:
    from tenfold.webhooks.outgoing import Webhooks
    from tenfold.webhooks.policy import Patience
    from tenfold.webhooks.providers import Provider as WebhookProvider
    from tenfold.webhooks.providers import ProviderName

F = TypeVar("F", bound=Callable[..., Any])


class Hooks(Operations):
    """Webhooks in both directions; operations manage those that go out."""

    def webhook(
        self,
        path: str,
        *,
        secret: str | Sequence[str] | Callable[..., Any],
        provider: ProviderName | WebhookProvider = "standard",
        retry: Retry | None = None,
        timeout: float | None = 60.0,
        queue: str = "default",
        priority: int = 0,
        concurrency: int | None = None,
        body_max_bytes: int = 1_048_576,
        limit: str | Limit | None = None,
        name: str | None = None,
    ) -> Callable[[F], F]:
        """Take in webhooks at ``POST path``: verified, kept, answered with 202, and handled once by a worker.

        The function takes the body, or a :class:`~tenfold.webhooks.Received` of it, and what is injected; with
        ``tx: Tx``, its effect commits together with the note that this webhook was handled. ``secret`` is a text,
        several that are all good (while one is replaced), or a function that makes either of what is injected,
        such as the service's settings. The other options are those of :meth:`on`; what is promised stands in
        :mod:`tenfold.webhooks.incoming`.
        """

        def declare(fn: F) -> F:
            from tenfold.webhooks.incoming import IncomingWebhook

            hook = IncomingWebhook(
                self.name,
                self.prefix + path,
                fn,
                secret=secret,
                provider=provider,
                name=name,
                retry=retry,
                timeout=timeout,
                queue=queue,
                priority=priority,
                concurrency=concurrency,
                body_max_bytes=body_max_bytes,
                limit=limit,
                tags=self.tags,
            )
            self.webhooks_in.append(hook)
            self.operations.append(hook.operation)
            self.start_hooks.append(hook.start_hook())
            return fn

        return declare

    def webhooks(
        self, *topics: Topic[Any], path: str = "", auth: Any = UNSET, patience: Patience | None = None
    ) -> Webhooks:
        """Send the events of ``topics`` to endpoints that are added at run time; see
        :class:`~tenfold.webhooks.outgoing.Webhooks`. They are kept in the service's database.

        With a ``path``, operations below it manage them, for who passes ``auth``.
        """
        from tenfold.webhooks.outgoing import Webhooks
        from tenfold.webhooks.policy import Patience

        if not self.databases:
            raise DeclarationError(
                "its endpoints are kept in a database, and it has none yet.",
                where=f"service {self.name}, webhooks",
                remedy="Declare one before: db = service.database(metadata).",
            )
        hooks = Webhooks(self.name, self.databases[0], topics, patience or Patience())
        self.topics.append(hooks.disabled)
        self.jobs += hooks.work.jobs
        self.subscriptions += hooks.work.subscriptions
        self.schedules += hooks.work.schedules
        self.start_hooks.append(hooks.start)
        self.webhooks_out.append(hooks)
        if path:
            from tenfold.webhooks import operations

            operations.declare(self, hooks, path, auth)
        return hooks
