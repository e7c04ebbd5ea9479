"""What the mailer reads of the configuration, and what it finds to be no use although its form is right."""

from collections.abc import Iterator
from functools import cached_property

from mailer.errors import MailerError
from mailer.recipients import parse_recipient
from mailer.signing import DkimSigner
from service_kit.settings import CommonSettings, MailSettings, QueueSettings, SuppressionSettings
from shared_store.store_url import unusable_url

SERVICE = "mailer"

Findings = Iterator[tuple[str, str]]


class StoreSettings(CommonSettings, QueueSettings, SuppressionSettings):
    """What those commands read that look into Redis and send nothing."""


class Settings(MailSettings, StoreSettings):
    """All settings of the mailer; each is declared, with its default and its help, in service_kit."""

    @cached_property
    def dkim_signer(self) -> DkimSigner | None:
        """What signs mails, read once; None where nothing is to.

        Raises:
            SigningKeyError: it can't.
        """
        domain, selector, key_file = self.dkim_domain, self.dkim_selector, self.dkim_key_file
        if domain is None or selector is None or key_file is None:
            return None
        return DkimSigner.from_file(key_file, domain=domain, selector=selector)

    def unusable(self) -> Findings:
        """Addresses that no mail can come from or go to, and a DKIM key that can't sign."""
        yield from super().unusable()
        if self.has("redis_url"):
            yield from unusable_url(self.redis_url.get_secret_value())
        addresses = [("uncounted_emails", address) for address in self.uncounted_emails]
        if self.has("from_address"):
            addresses.append(("from_address", self.from_address))
        for name, address in addresses:
            try:
                parse_recipient(address)
            except MailerError as error:
                yield name, f"can't be used: {error}"
        try:
            _ = self.dkim_signer
        except MailerError as error:
            yield "dkim_key_file", f"is no use: {error}"
