"""What auth-api reads of the configuration."""

from service_kit.settings import CommonSettings, HttpSettings, KeySettings, LoginSettings, QueueSettings

SERVICE = "auth-api"


class Settings(CommonSettings, HttpSettings, LoginSettings, QueueSettings, KeySettings):
    """All settings of auth-api; each is declared, with its default and its help, in service_kit."""
