"""What the launcher itself reads of the configuration; each service reads and checks its own part."""

from collections.abc import Mapping

from service_kit.settings import LAUNCHER, Loaded, StoreSettings, load
from service_kit.settings import types as t
from service_kit.settings.groups import Findings, Given
from shared_store.store_url import unusable_url


class LauncherSettings(StoreSettings):
    """The store, and where the services answer. All optional here: what a service requires, it asks for itself."""

    redis_url: t.RedisUrl | None = None
    listen_ip: t.IpLiteral = "127.0.0.1"
    listen_port: t.Port = 3333
    public_url: t.PublicUrl | None = None
    internal_ip: t.IpLiteral = "127.0.0.1"
    internal_port: t.PortOrOff = 0
    log_level: t.LogLevel = "info"
    log_format: t.LogFormat = "auto"

    @classmethod
    def disagreements(cls, given: Given) -> Findings:
        """One store, not two."""
        yield from super().disagreements(given)
        if given.get("redis_url") and given.get("memory_storage"):
            yield "memory_storage", "asks for a throw-away store, but redis_url names one; keep one of the two"

    def unusable(self) -> Findings:
        """A redis_url of which no form makes sense."""
        yield from super().unusable()
        if self.redis_url is not None:
            yield from unusable_url(self.redis_url.get_secret_value())


def load_settings(config: str | None, environment: Mapping[str, str] | None = None) -> Loaded[LauncherSettings]:
    """Read the file and the environment. Raises: ConfigurationError."""
    return load(LauncherSettings, service=LAUNCHER, config_path=config, environ=environment)
