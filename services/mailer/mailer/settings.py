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
        """A sender that no mail can come from, and a DKIM key that can't sign."""
        yield from super().unusable()
        try:
            parse_recipient(self.from_address)
        except MailerError as error:
            yield "from_address", f"can't be used: {error}"
        try:
            if self.dkim_key_file:
                read_key(self.dkim_key_file)
        except MailerError as error:
            yield "dkim_key_file", f"is no use: {error}"
