"""From the service's settings to what its parts take; `composition` puts the parts together."""

from collections.abc import Sequence
from math import ceil

import structlog

from auth_api.addresses import normalize_domain
from auth_api.bounces.mailgun import Mailgun
from auth_api.bounces.postmark import Postmark
from auth_api.bounces.reports import Provider
from auth_api.bounces.sendgrid import SendGrid
from auth_api.discovery.cache import AnswerCache
from auth_api.discovery.providers import DiscoverySettings
from auth_api.discovery.webfinger import Link as UsableLink
from auth_api.discovery.webfinger import usable_links
from auth_api.limits import parse_limits
from auth_api.login.attempts import Bounds
from auth_api.login.domain_rules import DomainRules
from auth_api.login.logins import LoginSettings
from auth_api.mail_servers import MailServers
from auth_api.metrics import Metrics
from auth_api.oidc.discovery_document import discovery_document
from auth_api.pages import Locale
from auth_api.routes.requests import LoginCookie
from auth_api.settings import Settings
from service_kit.settings import Link
from shared_store.suppressions import Suppressions

log = structlog.get_logger(__name__)

DOCUMENTATION = "https://portier.github.io"


def login_cookie(settings: Settings, *, https: bool) -> LoginCookie | None:
    """Say how browsers are known again; None where the operator wants no cookie."""
    if settings.device_cookie_ttl < 0:
        return None
    return LoginCookie(secure=https, max_age=settings.device_cookie_ttl or None)


def discovery(settings: Settings) -> dict[str, object]:
    """Write our own discovery document."""
    return discovery_document(
        issuer=settings.public_url,
        signing_algs=settings.signing_algs,
        ui_locales=[locale.value for locale in Locale],
        service_documentation=DOCUMENTATION,
    )


def bounds(settings: Settings) -> Bounds:
    """Say how much is too much."""
    return Bounds(
        limits=parse_limits(settings.limits),
        mails_per_address=settings.mails_per_address,
        wrong_codes_per_address=settings.wrong_codes_per_address,
        wrong_codes_per_network=settings.wrong_codes_per_network,
    )


def login_settings(settings: Settings) -> LoginSettings:
    """Say how logins go."""
    return LoginSettings(
        public_url=settings.public_url,
        session_ttl=settings.session_ttl,
        mail_wait=settings.mail_wait,
        queue_bound=ceil(settings.mail_queue_max / settings.mail_queue_shards),
        resend_delay=settings.resend_delay,
    )


def suppressions(settings: Settings) -> Suppressions:
    """Make the list of addresses that mail came back from; without a key it is empty and stays so."""
    key = settings.suppression_key
    return Suppressions(key.get_secret_value() if key else "", life=settings.suppression_ttl)


def webhook_providers(settings: Settings) -> dict[str, Provider]:
    """Make the readers of those providers' webhooks that are configured, by name."""
    secret, key, public = settings.postmark_webhook_secret, settings.mailgun_webhook_key, settings.sendgrid_webhook_key
    providers = (
        Postmark(secret.get_secret_value()) if secret else None,
        Mailgun(key.get_secret_value()) if key else None,
        SendGrid(public) if public else None,
    )
    return {provider.name: provider for provider in providers if provider}


def discovery_settings(settings: Settings) -> DiscoverySettings:
    """Say how identity providers are found."""
    return DiscoverySettings(
        public_url=settings.public_url,
        google_client_id=settings.google_client_id,
        overrides={
            normalize_domain(domain): _usable_links(domain, links, settings)
            for domain, links in settings.domain_overrides.items()
        },
        cache_ttl=settings.cache_ttl,
        discovery_timeout=settings.discovery_timeout,
        webfinger_timeout=settings.webfinger_timeout,
        config_timeout=settings.oidc_config_timeout,
        keys_timeout=settings.oidc_jwks_timeout,
        development=settings.development,
    )


def _usable_links(domain: str, links: Sequence[Link], settings: Settings) -> list[UsableLink]:
    pairs = [(link.rel, link.href) for link in links]
    usable = usable_links(pairs, own_url=settings.public_url, development=settings.development)
    if len(usable) < len(pairs):
        log.warning("domain_override_not_usable", domain=domain, links=len(pairs), usable=len(usable))
    return usable


def domain_rules(settings: Settings, answers: AnswerCache, metrics: Metrics) -> DomainRules:
    """Say which mail domains may log in."""
    resolver = settings.verify_with_resolver
    return DomainRules(
        allowed=[normalize_domain(domain) for domain in settings.allowed_domains],
        blocked=[normalize_domain(domain) for domain in settings.blocked_domains],
        allowed_only=settings.allowed_domains_only,
        mail_servers=None
        if resolver is None
        else MailServers(resolver.host, resolver.port, public_only=settings.verify_public_ip),
        answers=answers,
        metrics=metrics,
    )
