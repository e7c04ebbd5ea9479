"""What auth-api reads of the configuration, and what it can tell of values whose form is right and that are no use."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property

from auth_api.addresses import normalize_domain, parse_address
from auth_api.bounces.sendgrid import read_key
from auth_api.configured_keys import ConfiguredKeys, read_configured_keys
from auth_api.errors import AuthApiError
from auth_api.limits import parse_limit
from auth_api.pages import Pages
from service_kit.errors import OverrideError
from service_kit.settings import (
    CommonSettings,
    HttpSettings,
    KeySettings,
    LoginSettings,
    QueueSettings,
    SuppressionSettings,
    WebhookSettings,
)
from shared_store.store_url import unusable_url

SERVICE = "auth-api"

Findings = Iterator[tuple[str, str]]

# What reads one entry of a list, or one name of a table, and raises an AuthApiError for one that is no use.
_READERS: Mapping[str, Callable[[str], object]] = {
    "limits": parse_limit,
    "allowed_domains": normalize_domain,
    "blocked_domains": normalize_domain,
    "domain_overrides": normalize_domain,
    "uncounted_emails": parse_address,
}


class Settings(
    CommonSettings, HttpSettings, LoginSettings, QueueSettings, KeySettings, SuppressionSettings, WebhookSettings
):
    """All settings of auth-api; each is declared, with its default and its help, in service_kit."""

    @cached_property
    def configured_keys(self) -> ConfiguredKeys:
        """The keys of keyfiles and keytext, read once."""
        return read_configured_keys(self.keyfiles, self.keytext.get_secret_value() if self.keytext else None)

    @cached_property
    def pages(self) -> Pages:
        """The pages, with the operator's own templates and catalogues, read once.

        Raises:
            OverrideError: one of those can't be used.
        """
        return Pages(data_dir=self.data_dir)

    def unusable(self) -> Findings:
        """Entries that can't be read, keys that are missing, files of data_dir that can't be used."""
        yield from super().unusable()
        if self.has("redis_url"):
            yield from unusable_url(self.redis_url.get_secret_value())
        for name, reader in _READERS.items():
            yield from ((name, message) for message in _problems(reader, getattr(self, name)))
        if self.keyfiles or self.keytext:
            for alg in set(self.signing_algs) - self.configured_keys.by_alg.keys():
                yield "signing_algs", f"names {alg}, but keyfiles and keytext hold no such key; add one, or drop {alg}"
        yield from self._unusable_webhooks()
        if any((self.data_dir / name).is_dir() for name in ("tmpl", "res", "lang")):
            try:
                _ = self.pages
            except OverrideError as error:
                yield "data_dir", f"holds what can't be used: {error}"

    def _unusable_webhooks(self) -> Findings:
        for name in WebhookSettings.model_fields:
            if getattr(self, name) and not self.suppression_key:
                yield name, "needs suppression_key beside it, under which bounces are kept"
        if self.sendgrid_webhook_key:
            try:
                read_key(self.sendgrid_webhook_key)
            except AuthApiError as error:
                yield "sendgrid_webhook_key", f"can't be used: {error}"

    def cautions(self) -> Findings:
        """Keys that are left out because they can't be read."""
        yield from super().cautions()
        yield from self.configured_keys.unreadable


def _problems(reader: Callable[[str], object], entries: Iterable[str]) -> Iterator[str]:
    for number, entry in enumerate(entries, 1):
        try:
            reader(entry)
        except AuthApiError as error:
            yield f"entry {number}: {error}"
