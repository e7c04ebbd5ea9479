"""What the mailer reads of the configuration, and what it finds to be no use although its form is right."""

from collections.abc import Iterator

from mailer.errors import MailerError
from mailer.recipients import parse_recipient
from mailer.signing import read_key
from service_kit.settings import CommonSettings, MailSettings, QueueSettings, SuppressionSettings

SERVICE = "mailer"

Findings = Iterator[tuple[str, str]]


class Settings(CommonSettings, MailSettings, QueueSettings, SuppressionSettings):
    """All settings of the mailer; each is declared, with its default and its help, in service_kit."""

    def unusable(self) -> Findings:
        """Addresses that no mail can come from or go to, and a DKIM key that can't sign."""
        yield from super().unusable()
        addresses = [("uncounted_emails", address) for address in self.uncounted_emails]
        for name, address in (("from_address", self.from_address), *addresses):
            try:
                parse_recipient(address)
            except MailerError as error:
                yield name, f"can't be used: {error}"
        try:
            if self.dkim_key_file:
                read_key(self.dkim_key_file)
        except MailerError as error:
            yield "dkim_key_file", f"is no use: {error}"
