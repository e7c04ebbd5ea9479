"""Waiting for the mailers: what became of the mail that this instance asked for."""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Iterator

from shared_store.errors import StoreError
from shared_store.keyspace import mail_result_channel
from shared_store.mail_queue import MailQueue, Outcome, parse_result
from shared_store.notices import Notices
from shared_store.store import Store


class MailResults:
    """Hears the outcomes of this instance's mail jobs on one channel and hands each to the request that waits."""

    def __init__(self, store: Store, notices: Notices) -> None:
        self.channel = mail_result_channel(secrets.token_urlsafe(9))
        self._store = store
        self._notices = notices
        self._waiting: dict[str, asyncio.Future[Outcome]] = {}

    @contextlib.contextmanager
    def expecting(self, job_id: str) -> Iterator["asyncio.Future[Outcome]"]:
        """Listen for a job's outcome while the block runs. Enter it before the job is queued."""
        outcome: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._waiting[job_id] = outcome
        try:
            yield outcome
        finally:
            del self._waiting[job_id]
            outcome.cancel()

    async def wait(
        self, queue: MailQueue, job_id: str, outcome: "asyncio.Future[Outcome]", *, seconds: float
    ) -> Outcome | None:
        """Give a job's outcome if it is known within that time; the notice may be lost, so the key is asked last."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                return await asyncio.shield(outcome)
        with contextlib.suppress(StoreError):
            return await self._store.run(queue.result(job_id))
        return None

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Hand outcomes on while the block runs."""
        with self._notices.listen(self.channel) as messages:
            task = asyncio.create_task(self._hand_on(messages))
            try:
                yield
            finally:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task

    async def _hand_on(self, messages: "asyncio.Queue[bytes]") -> None:
        while True:
            result = parse_result(await messages.get())
            if result is None:
                continue
            job_id, outcome = result
            waiting = self._waiting.get(job_id)
            if waiting is not None and not waiting.done():
                waiting.set_result(outcome)
