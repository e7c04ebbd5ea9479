"""Which identity provider proves an address, found within a bound of time: configured, Google's, or by WebFinger."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import structlog

from auth_api.addresses import EmailAddress
from auth_api.discovery.cache import Answer, AnswerCache, Question
from auth_api.discovery.flights import Flights
from auth_api.discovery.provider import (
    CONFIGURATION_PATH,
    Configuration,
    Jwk,
    read_configuration,
    read_keys,
    signing_alg,
    write_keys,
)
from auth_api.discovery.safe_http import Document, SafeHttp, json_object
from auth_api.discovery.webfinger import (
    GOOGLE,
    GOOGLE_DOMAINS,
    GOOGLE_LINK,
    Link,
    Rel,
    read_links,
    webfinger_url,
    write_links,
)
from auth_api.errors import DiscoveryError, StatusError
from auth_api.metrics import Metrics
from shared_store.errors import StoreError, StoreUnavailable
from shared_store.fetch_cache import Known
from shared_store.signing_keys import SigningAlg

log = structlog.get_logger(__name__)

Value_co = TypeVar("Value_co", covariant=True)

NOTHING_FRESH = 300.0  # seconds that "no such resource" is believed: soon a domain may have set up its provider


@dataclass(frozen=True, slots=True)
class DiscoverySettings:
    """What the operator chose; times in seconds. `overrides` has a domain's links in place of WebFinger's."""

    public_url: str
    google_client_id: str | None
    overrides: Mapping[str, Sequence[Link]]
    cache_ttl: float
    discovery_timeout: float
    webfinger_timeout: float
    config_timeout: float
    keys_timeout: float
    development: bool = False


@dataclass(frozen=True, slots=True)
class Provider:
    """An identity provider, ready to be asked: its documents are here and can be used."""

    rel: Rel
    origin: str
    client_id: str
    authorization_endpoint: str
    jwks_uri: str
    form_post: bool
    alg: SigningAlg


@dataclass(slots=True)
class _Search:
    """A search for an address's provider: what has been read for it, and what it waits for."""

    address: EmailAddress
    known: Known
    waits_for: Question[object] | None = None


class Providers:
    """Finds providers and their keys."""

    def __init__(
        self,
        *,
        http: SafeHttp,
        answers: AnswerCache,
        searches: Flights[Provider | None],
        metrics: Metrics,
        settings: DiscoverySettings,
    ) -> None:
        self._http = http
        self._answers = answers
        self._searches = searches
        self._metrics = metrics
        self._settings = settings

    def names(self, address: EmailAddress) -> list[str]:
        """What to read from the cache before `find`, in the round trip that reads other things, too."""
        return [] if self._configured(address) is not None else self._webfinger(address).names

    async def find(self, address: EmailAddress, known: Known) -> Provider | None:
        """Give the provider of an address, None where a mail is to be sent.

        Waits at most `discovery_timeout`; the search goes on after that, for whoever comes next. Until it has ended,
        nobody else waits for what it waits for.
        """
        search = _Search(address, known)
        try:
            task = self._searches.start(lambda: self._run(search))
            async with asyncio.timeout(self._settings.discovery_timeout):
                return await asyncio.shield(task)
        except TimeoutError:
            log.info("discovery_takes_too_long", domain=address.domain)
            if search.waits_for is not None:
                await self._answers.remember_slow(search.waits_for)
        except DiscoveryError as error:
            # What the operator has configured is meant to work; of the rest, much can't.
            tell = log.info if self._configured(address) is None else log.warning
            tell("discovery_failed", domain=address.domain, reason=str(error))
        except StoreUnavailable:
            raise
        except StoreError as error:
            log.warning("discovery_failed", domain=address.domain, reason=str(error))
        return None

    async def keys(self, jwks_uri: str, *, anew: bool = False) -> list[Jwk]:
        """Give a provider's signing keys; `anew` where those known so far are not enough.

        Raises:
            DiscoveryError: they can't be had.
        """
        question = self._keys_question(jwks_uri)
        return await (self._answers.get_anew(question) if anew else self._answers.get(question))

    async def _run(self, search: _Search) -> Provider | None:
        address = search.address
        link = await self._link(search)
        if link is None:
            return None
        client_id = self._client_id(link)
        if client_id is None:
            return None
        with self._metrics.measure(self._metrics.fetch_config, address):
            configuration = await self._ask(search, self._configuration_question(link.origin))
        with self._metrics.measure(self._metrics.fetch_jwks, address):
            keys = await self._ask(search, self._keys_question(configuration.jwks_uri))
        return Provider(
            rel=link.rel,
            origin=link.origin,
            client_id=client_id,
            authorization_endpoint=configuration.authorization_endpoint,
            jwks_uri=configuration.jwks_uri,
            form_post=configuration.form_post,
            alg=signing_alg(configuration, keys),
        )

    async def _ask(self, search: _Search, question: Question[Value_co]) -> Value_co:
        search.waits_for = question
        return await self._answers.get(question, search.known)

    async def _link(self, search: _Search) -> Link | None:
        address = search.address
        configured = self._configured(address)
        if configured is not None:
            return configured[0] if configured else None
        try:
            with self._metrics.measure(self._metrics.webfinger, address):
                links = await self._ask(search, self._webfinger(address))
                return links[0] if links else None
        except DiscoveryError as error:
            # The usual case: most domains know nothing of this.
            log.debug("webfinger_failed", domain=address.domain, reason=str(error))
            return None

    def _configured(self, address: EmailAddress) -> Sequence[Link] | None:
        if address.domain in self._settings.overrides:
            return self._settings.overrides[address.domain]
        if self._settings.google_client_id is not None and address.domain in GOOGLE_DOMAINS:
            return (GOOGLE_LINK,)
        return None

    def _client_id(self, link: Link) -> str | None:
        if link.rel == "portier":
            return self._settings.public_url
        return self._settings.google_client_id if link.origin == GOOGLE else None

    def _webfinger(self, address: EmailAddress) -> Question[list[Link]]:
        url = webfinger_url(address)

        def read(text: str) -> list[Link]:
            own_url, development = self._settings.public_url, self._settings.development
            return read_links(json_object(text), own_url=own_url, development=development)

        def read_kept(text: str) -> list[Link]:
            links = read(text)
            if write_links(links) != text:  # nearly any object is a JRD, one without links
                raise DiscoveryError("what is kept of the domain's links was not written here")
            return links

        async def ask() -> Answer:
            try:
                document = await self._http.get(url, within=self._settings.webfinger_timeout)
            except StatusError as error:
                if error.status in (404, 410):
                    return Answer(write_links([]), NOTHING_FRESH)
                raise
            return self._answer(document, write_links(read(document.text)))

        return Question(url, ask, read_kept, self._settings.webfinger_timeout, host=f"webfinger:{address.domain}")

    def _configuration_question(self, origin: str) -> Question[Configuration]:
        url = origin + CONFIGURATION_PATH

        def read(text: str) -> Configuration:
            return read_configuration(json_object(text), origin=origin, development=self._settings.development)

        async def ask() -> Answer:
            document = await self._http.get(url, within=self._settings.config_timeout)
            return self._answer(document, read(document.text).to_json())

        return Question(url, ask, read, self._settings.config_timeout)

    def _keys_question(self, jwks_uri: str) -> Question[list[Jwk]]:
        def read(text: str) -> list[Jwk]:
            return list(read_keys(json_object(text)))

        async def ask() -> Answer:
            document = await self._http.get(jwks_uri, within=self._settings.keys_timeout)
            return self._answer(document, write_keys(read(document.text)))

        # Not the bare URL: a provider may name its own configuration, or a WebFinger address, as its keys.
        return Question(f"keys {jwks_uri}", ask, read, self._settings.keys_timeout)

    def _answer(self, document: Document, text: str) -> Answer:
        return Answer(text, max(self._settings.cache_ttl, document.max_age or 0.0))
