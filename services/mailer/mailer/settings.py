"""What the mailer reads of the configuration."""

from service_kit.settings import CommonSettings, MailSettings, QueueSettings

SERVICE = "mailer"


class Settings(CommonSettings, MailSettings, QueueSettings):
    """All settings of the mailer; each is declared, with its default and its help, in service_kit."""
