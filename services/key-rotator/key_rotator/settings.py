"""What key-rotator reads of the configuration."""

from collections.abc import Iterator

from key_rotator.policy import Policy
from service_kit.settings import CommonSettings, KeyMakingSettings, KeySettings
from shared_store.store_url import unusable_url

SERVICE = "key-rotator"


class Settings(CommonSettings, KeySettings, KeyMakingSettings):
    """All settings of key-rotator; each is declared, with its default and its help, in service_kit."""

    def unusable(self) -> Iterator[tuple[str, str]]:
        """A redis_url of which no form makes sense."""
        yield from super().unusable()
        if self.has("redis_url"):
            yield from unusable_url(self.redis_url.get_secret_value())

    @property
    def has_manual_keys(self) -> bool:
        """Whether auth-api signs with configured keys, so that there is nothing to rotate."""
        return bool(self.keyfiles or self.keytext)

    @property
    def policy(self) -> Policy:
        """How long keys and tokens live."""
        return Policy(keys_ttl=self.keys_ttl, token_ttl=self.token_ttl)
