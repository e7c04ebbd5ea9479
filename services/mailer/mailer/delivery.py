"""One attempt to deliver a job: rendered once, offered to the transports in their order."""

import time
from collections.abc import Sequence

import structlog

from mailer.messages import Mail, Sender
from mailer.metrics import Metrics
from mailer.outcomes import Attempt, Fault, Verdict, transport_failed
from mailer.rendering import Renderer
from mailer.transports.base import Transport
from shared_store.mail_jobs import MailJob

log = structlog.get_logger(__name__)


class Delivery:
    """Renders mails and sends them by the first transport that can."""

    def __init__(
        self, *, renderer: Renderer, sender: Sender, transports: Sequence[Transport], metrics: Metrics
    ) -> None:
        self._renderer = renderer
        self._sender = sender
        self._transports = transports
        self._metrics = metrics

    async def attempt(self, job: MailJob, *, now: float) -> Attempt:
        """Try once. `now` is the time for the mail's Date, in Unix seconds of the store's clock.

        The next transport is asked only where the fault is the transport's: what one server says of a recipient,
        another should not be asked to forget, and what may have been taken must not be sent elsewhere.
        """
        mail = Mail(job_id=job.id, sender=self._sender, to=job.to, texts=self._renderer.render(job), time=now)
        attempt = transport_failed("no transport")
        for transport in self._transports:
            began = time.monotonic()
            attempt = await transport.send(mail)
            self._metrics.attempted(transport.name, attempt, seconds=time.monotonic() - began)
            log.info(
                "mail_attempt", job=job.id, transport=transport.name, verdict=attempt.verdict, detail=attempt.detail
            )
            if attempt.verdict is not Verdict.TRY_AGAIN or attempt.fault is not Fault.TRANSPORT:
                return attempt
        return attempt
