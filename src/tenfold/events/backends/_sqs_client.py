"""The clients of SNS and SQS, and what their errors mean."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Generator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

from aiobotocore.config import AioConfig  # type: ignore[import-untyped]
from aiobotocore.session import get_session  # type: ignore[import-untyped]
from botocore.exceptions import BotoCoreError, ClientError  # type: ignore[import-untyped]

from tenfold.errors import BrokerUnavailable

if TYPE_CHECKING:
    from tenfold.events.backends._sqs_names import Account

CONNECTIONS = 20
LONG_POLL_S = 20


class SqsLink:
    """Both clients. They keep connections open, and open new ones as needed; nothing of it can break for good."""

    def __init__(self, account: Account) -> None:
        self.account = account
        self._stack: AsyncExitStack | None = None
        self._opening = asyncio.Lock()
        self._sns: Any = None
        self._sqs: Any = None

    @asynccontextmanager
    async def calling(self, extra_s: float = 0.0) -> AsyncGenerator[tuple[Any, Any]]:
        """Both clients, SNS and SQS, errors as ours, and a time-out over all that is done inside."""
        with self.translated():
            async with asyncio.timeout(self.account.timeout_s + extra_s):
                await self._open()
                yield self._sns, self._sqs

    async def close(self) -> None:
        """Never raises."""
        stack, self._stack = self._stack, None
        if stack is not None:
            await stack.aclose()

    def unavailable(self, what: str) -> BrokerUnavailable:
        """A sentence that says which service."""
        return BrokerUnavailable(f"SQS in {self.account.region} (events.url) {what}.")

    @contextmanager
    def translated(self) -> Generator[None]:
        """The library's errors as ours."""
        try:
            yield
        except TimeoutError:
            raise self.unavailable(f"did not answer within {self.account.timeout_s:g} s") from None
        except ClientError as error:
            told = error.response.get("Error", {})
            raise self.unavailable(
                f"refuses ({told.get('Code', '?')}): {told.get('Message', error)}"
            ) from error
        except (BotoCoreError, OSError) as error:
            raise self.unavailable(f"cannot be reached: {error}") from error

    async def _open(self) -> None:
        async with self._opening:
            if self._stack is not None:
                return
            account = self.account
            # The relay and the intake try again themselves; a second layer of retries would multiply theirs.
            config = AioConfig(
                connect_timeout=account.timeout_s,
                read_timeout=account.timeout_s + LONG_POLL_S,
                max_pool_connections=CONNECTIONS,
                retries={"total_max_attempts": 1},
            )
            options: dict[str, Any] = {"region_name": account.region, "config": config}
            if account.endpoint is not None:
                options["endpoint_url"] = account.endpoint
            if account.key:
                options |= {"aws_access_key_id": account.key, "aws_secret_access_key": account.secret}
            session = get_session()
            async with AsyncExitStack() as stack:
                self._sns = await stack.enter_async_context(session.create_client("sns", **options))
                self._sqs = await stack.enter_async_context(session.create_client("sqs", **options))
                self._stack = stack.pop_all()
