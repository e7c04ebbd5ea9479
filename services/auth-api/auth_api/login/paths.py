"""How an address is to be proved: what comes between an authorization request and the way that its login takes."""

from dataclasses import dataclass

from auth_api.addresses import may_be_routed
from auth_api.discovery.providers import Provider, Providers
from auth_api.errors import CorruptRecordError, MailCameBackError
from auth_api.login.attempts import Attempts, Subject
from auth_api.login.domain_rules import DomainRules
from auth_api.login.logins import Visitor
from auth_api.metrics import Metrics
from auth_api.oidc.authorization_request import AuthorizationRequest
from shared_store import fetch_cache


@dataclass(frozen=True, slots=True)
class Path:
    """By this identity provider, or by mail; and the counters that a completed login is refunded on."""

    provider: Provider | None
    refundable: list[str]


class Paths:
    """Limits, then the domain rules, then discovery."""

    def __init__(self, *, attempts: Attempts, rules: DomainRules, providers: Providers, metrics: Metrics) -> None:
        self._attempts = attempts
        self._rules = rules
        self._providers = providers
        self._metrics = metrics

    async def choose(self, request: AuthorizationRequest, visitor: Visitor) -> Path:
        """Choose a login's path. Waits for Redis once, and oftener for what its cache has not.

        Raises:
            TooManyAttemptsError: a limit is exceeded, or the address has been sent as many mails as it may.
            MailCameBackError: mail to the address came back not long ago.
            OAuthError: the domain is refused; the person would have to read a mail, which `prompt=none` forbids; or
                their mail might go to another domain.
        """
        address = request.address
        if address is None:
            raise CorruptRecordError("a login without an address has no path")
        names = [*self._rules.names(address.domain), *self._providers.names(address)]
        subject = Subject(visitor.ip, address, request.client_id)
        counted, known = await self._attempts.count(subject, reading=fetch_cache.read_all(names))
        self._metrics.auth_requested(address)
        await self._rules.check(request, address.domain, known)
        provider = await self._providers.find(address, known)
        if provider is not None:
            self._attempts.take_mail_back(counted.mails)
            return Path(provider, counted.refundable)
        if "none" in request.prompt:
            self._attempts.take_mail_back(counted.mails)
            raise request.failure("interaction_required", "the person has to read a mail")
        if may_be_routed(address):
            self._attempts.take_mail_back(counted.mails)
            raise request.failure("invalid_request", "no mail can be sent to an address of this form")
        if counted.came_back:
            self._attempts.take_mail_back(counted.mails)
            raise MailCameBackError(request)
        self._attempts.check_address(counted)
        return Path(None, [*counted.refundable, counted.mails.counter.key])
