"""What is done with a webhook call: the addresses it reports are not mailed again until that ends or is lifted."""

from collections.abc import Callable, Mapping

import structlog

from auth_api.bounces.refusals import Refusals
from auth_api.bounces.reports import AHEAD, OLDEST, Posted, Provider
from auth_api.errors import WebhookMalformedError, WebhookRefusedError
from auth_api.metrics import Metrics
from shared_store.store import Store
from shared_store.suppressions import Reason, Suppressions, remember_webhook, webhook_seen

log = structlog.get_logger(__name__)


class Bounces:
    """Takes calls of the providers that are configured, by name; `now` gives Unix time as the store has it.

    `refusals` is to be asked before a call is read.
    """

    def __init__(
        self,
        *,
        store: Store,
        suppressions: Suppressions,
        providers: Mapping[str, Provider],
        metrics: Metrics,
        now: Callable[[], float],
    ) -> None:
        self.providers = providers
        self._store = store
        self._suppressions = suppressions
        self._metrics = metrics
        self._now = now
        self.refusals = Refusals()
        for name in providers:  # from the start at 0: else the first would not count as an increase
            for event in ("refused", "replayed", "other", *Reason):
                metrics.mail_event(name, event, 0)

    async def take(self, provider: Provider, posted: Posted, *, network: str) -> None:
        """Check a call and do what it says. Waits for Redis twice, where it reports anything that counts.

        Raises:
            WebhookRefusedError: it is not the provider's, or too old.
            WebhookMalformedError: it is not in the provider's form.
        """
        now = self._now()
        try:
            report = provider.read(posted, now=now)
        except (WebhookRefusedError, WebhookMalformedError) as error:
            self.refusals.count(network)
            self._metrics.mail_event(provider.name, "refused")
            log.info("mail_webhook_refused", provider=provider.name, error=str(error))
            raise
        self._metrics.mail_event(provider.name, "other", report.others)
        if not report.came_back:
            return
        # Else what an operator has lifted could be put back by whoever has kept an old call.
        name = f"{provider.name} {report.name}"
        seen = await self._store.run(webhook_seen(name)) if report.name else False
        if seen:
            self._metrics.mail_event(provider.name, "replayed")
            log.warning("mail_webhook_replayed", provider=provider.name)
            return
        entries = [(str(one.address), one.reason) for one in report.came_back]
        calls = [self._suppressions.add(entries, source=provider.name, now=now)]
        if report.name:
            calls.append(remember_webhook(name, seconds=OLDEST + AHEAD))
        await self._store.run_all(*calls)
        for one in report.came_back:
            self._metrics.mail_event(provider.name, one.reason)
            log.info(
                "mail_came_back",
                provider=provider.name,
                reason=one.reason,
                suppression=self._suppressions.digest(str(one.address)),
            )
