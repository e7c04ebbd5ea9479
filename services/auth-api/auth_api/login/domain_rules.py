"""Which mail domains may log in (the contract's domain rules, in their order)."""

from collections.abc import Collection
from typing import NoReturn

import structlog

from auth_api.discovery.cache import AnswerCache
from auth_api.errors import DiscoveryError
from auth_api.mail_servers import MailServers
from auth_api.metrics import DomainProblem, Metrics
from auth_api.oidc.authorization_request import AuthorizationRequest
from shared_store.fetch_cache import Known

log = structlog.get_logger(__name__)


class DomainRules:
    """Lets domains pass or not; `mail_servers` is None where DNS is not asked."""

    def __init__(
        self,
        *,
        allowed: Collection[str],
        blocked: Collection[str],
        allowed_only: bool,
        mail_servers: MailServers | None,
        answers: AnswerCache,
        metrics: Metrics,
    ) -> None:
        self._allowed = frozenset(allowed)
        self._blocked = frozenset(blocked)
        self._allowed_only = allowed_only
        self._mail_servers = mail_servers
        self._answers = answers
        self._metrics = metrics

    def names(self, domain: str) -> list[str]:
        """What to read from the cache before `check`, in the round trip that reads other things, too."""
        if self._mail_servers is None or self._verdict(domain) is not None:
            return []
        return self._mail_servers.question(domain).names

    async def check(self, request: AuthorizationRequest, domain: str, known: Known) -> None:
        """Let a request for an address of this domain pass.

        Raises:
            OAuthError: `invalid_request`; the domain is blocked, or mail can't reach it.
        """
        verdict = self._verdict(domain)
        if verdict is False:
            self._refuse(request, "blocked")
        if verdict is None and self._mail_servers is not None:
            problem = await self._problem(domain, known)
            if problem is not None:
                self._refuse(request, problem)

    def _verdict(self, domain: str) -> bool | None:
        """What the lists say; None for nothing."""
        if domain in self._allowed:
            return True
        return False if self._allowed_only or domain in self._blocked else None

    async def _problem(self, domain: str, known: Known) -> DomainProblem | None:
        if self._mail_servers is None:
            return None
        try:
            return await self._answers.get(self._mail_servers.question(domain), known)
        except DiscoveryError as error:
            # Who asks for this check wants no mail sent to a domain that can't be shown to have servers.
            log.info("domain_not_verified", domain=domain, reason=str(error))
            return "no_servers"

    def _refuse(self, request: AuthorizationRequest, problem: DomainProblem) -> NoReturn:
        self._metrics.domain_errors.inc(problem)
        state = "blocked" if problem == "blocked" else "invalid"
        raise request.failure("invalid_request", f"the domain of the email address is {state}")
