"""What key-rotator reads of the configuration."""

from key_rotator.policy import Policy
from service_kit.settings import CommonSettings, KeyMakingSettings, KeySettings

SERVICE = "key-rotator"


class Settings(CommonSettings, KeySettings, KeyMakingSettings):
    """All settings of key-rotator; each is declared, with its default and its help, in service_kit."""

    @property
    def has_manual_keys(self) -> bool:
        """Whether auth-api signs with configured keys, so that there is nothing to rotate."""
        return bool(self.keyfiles or self.keytext)

    @property
    def policy(self) -> Policy:
        """How long keys and tokens live."""
        return Policy(keys_ttl=self.keys_ttl, token_ttl=self.token_ttl)
