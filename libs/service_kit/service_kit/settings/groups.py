"""Every setting, declared once: its name, type, default and help, in groups that services put together.

A service's own class is `class Settings(CommonSettings, KeySettings)`. What must fit together across settings is said
in `disagreements`; what has the right form and yet can't be used, in `unusable`; what is allowed but unwise, in
`cautions`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from ipaddress import ip_network
from pathlib import Path
from typing import ClassVar, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, model_validator

from service_kit.settings import types as t
from service_kit.settings.links import DomainOverrides

AUTH_API, MAILER, KEY_ROTATOR, LAUNCHER = "auth-api", "mailer", "key-rotator", "portier-broker"

DEFAULT_LIMITS = (
    "ip:50/s",
    "ip:extend_window:100/5s",
    "ip:email:30/h",
    "ip:email:decr_complete:5/15m",
    "ip:email:origin:decr_complete:2/15m",
)

Given = Mapping[str, object]
Findings = Iterator[tuple[str, str]]


class SettingsGroup(BaseModel):
    """Base of the groups: immutable, and never repeats a value in an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, validate_default=False)
    readers: ClassVar[tuple[str, ...]] = ()
    _files: Mapping[str, Path] = PrivateAttr(default_factory=dict)

    def remember_files(self, files: Mapping[str, Path]) -> None:
        """Note which settings came from a BROKER_*_FILE, for those that may change while the service runs."""
        self._files = files

    def file_of(self, setting: str) -> Path | None:
        """The file that a setting's value was read from; None where it came from elsewhere."""
        return self._files.get(setting)

    def has(self, setting: str) -> bool:
        """Whether a setting that must be set is."""
        return setting in self.model_fields_set

    @classmethod
    def disagreements(cls, given: Given) -> Findings:  # noqa: ARG003 - the end of the chain of super() calls
        """Pairs of setting and message for settings that do not fit together; unset ones may be missing."""
        yield from ()

    def unusable(self) -> Findings:
        """Pairs of setting and message for values whose form is right and that still can't be used: a service's own.

        Where other settings are wrong, those have their defaults, or are not there (`has`) if they have none.
        """
        yield from ()

    def cautions(self) -> Findings:
        """Pairs of setting and message for what works but should not stay so."""
        yield from ()

    @model_validator(mode="after")
    def _settings_agree(self) -> Self:
        found = [f"{name} {message}" for name, message in self.disagreements(dict(self))]
        if found:
            raise ValueError("; ".join(found))
        return self


def need_each_other(given: Given, *names: str) -> Findings:
    """For settings of which all or none must be set: one finding for each that lacks another."""
    missing = [name for name in names if not given.get(name)]
    for name in names if len(missing) < len(names) else ():
        if missing and name not in missing:
            yield name, f"needs {' and '.join(missing)} beside it; set all or none of them"


class CommonSettings(SettingsGroup):
    """What every service reads: its Redis, its logs, its internal port."""

    readers: ClassVar[tuple[str, ...]] = (AUTH_API, MAILER, KEY_ROTATOR)

    redis_url: t.RedisUrl = Field(description="The Redis or Valkey that holds all state")
    redis_timeout: t.Timeout = Field(5, description="How long Redis may take to answer, in seconds")
    redis_max_connections: t.Count = Field(50, description="Most connections to Redis that one process opens")
    redis_wait_replicas: t.Replicas = Field(
        0, description="Replicas that must have a mail job or a key set before it counts as kept (Redis' WAIT)"
    )
    redis_wait_timeout: t.Timeout = Field(
        1, description="Seconds those replicas may take, fewer than redis_timeout; then the login is told 503"
    )
    redis_ca_file: t.ExistingFile | None = Field(None, description="CA certificates that Redis' TLS is checked against")
    redis_client_cert: t.ExistingFile | None = Field(None, description="TLS certificate to show to Redis")
    redis_client_key: t.ExistingFile | None = Field(None, description="Private key of redis_client_cert")
    redis_tls_min: t.TlsVersion = Field("1.2", description="Lowest version of TLS to speak with Redis, 1.2 or 1.3")
    internal_ip: t.IpLiteral = Field("127.0.0.1", description="Address of /healthz, /readyz and /metrics")
    internal_port: t.PortOrOff = Field(0, description="Port of /healthz, /readyz and /metrics; 0 = none")
    log_level: t.LogLevel = Field("info", description="Least severity that is logged")
    log_format: t.LogFormat = Field("auto", description="json, console (for people), or by whether it is a terminal")
    development: t.Switch = Field(False, description="Allow http for identity providers on this machine")

    @classmethod
    def disagreements(cls, given: Given) -> Findings:
        """Settings of this group that do not fit together."""
        yield from super().disagreements(given)
        yield from need_each_other(given, "redis_client_cert", "redis_client_key")

    def unusable(self) -> Findings:
        """A wait for replicas that would be taken for a Redis that hangs."""
        yield from super().unusable()
        if self.redis_wait_replicas and self.redis_wait_timeout >= self.redis_timeout:
            yield "redis_wait_timeout", f"has to be shorter than redis_timeout, which is {self.redis_timeout}"


class QueueSettings(SettingsGroup):
    """What the service that asks for mail and the one that sends it must agree on."""

    readers: ClassVar[tuple[str, ...]] = (AUTH_API, MAILER)

    data_dir: t.Folder = Field(
        Path(),
        description="Where your own templates (tmpl), static files (res) and catalogues (lang/de.po, lang/fr_CA.po …) "
        "lie, each in place of the shipped one",
    )
    session_ttl: t.Lifetime = Field(900, description="Seconds a person has to finish a login")
    mail_queue_max: t.QueueLength = Field(100_000, description="Mails that may wait; more logins are refused with 503")
    mail_queue_shards: t.Shards = Field(1, description="Parts the mail queue is split into, for a Redis Cluster")
    uncounted_emails: t.MailAddresses = Field((), description="Addresses left out of the metrics of success")


class HttpSettings(SettingsGroup):
    """The HTTP face: where it listens, who it is, how long its documents keep."""

    readers: ClassVar[tuple[str, ...]] = (AUTH_API,)

    listen_ip: t.IpLiteral = Field("127.0.0.1", description="Address that the broker listens on")
    listen_port: t.Port = Field(3333, description="Port that the broker listens on")
    public_url: t.PublicUrl = Field(description="The issuer: scheme and host exactly as relying parties configure it")
    trusted_proxies: t.Networks = Field(
        tuple(map(ip_network, ("127.0.0.0/8", "::1"))), description="Proxies whose X-Forwarded-For is believed"
    )
    csp: t.Text | None = Field(None, description="A Content-Security-Policy in place of the built-in one")
    cors_ttl: t.MaxAge = Field(0, description="Above 0: answer CORS for allowed_origins, kept for this many seconds")
    static_ttl: t.MaxAge = Field(604800, description="Seconds browsers may keep static files")
    discovery_ttl: t.MaxAge = Field(604800, description="Seconds relying parties may keep the discovery document")

    def cautions(self) -> Findings:
        """What of this group works but should not stay so."""
        yield from super().cautions()
        url = urlsplit(self.public_url)
        if url.scheme == "http" and url.hostname not in ("localhost", "127.0.0.1", "::1"):
            yield "public_url", "is plain http: codes and tokens can be read on the way; serve the broker over https"


class LoginSettings(SettingsGroup):
    """Who may log in, how an address is proven, and how much of it one may ask for."""

    readers: ClassVar[tuple[str, ...]] = (AUTH_API,)

    allowed_origins: t.Origins | None = Field(
        None, description="Relying parties that may use the broker; unset = anyone, an empty list = no one"
    )
    allowed_domains: t.Domains = Field((), description="Mail domains that are accepted without further checks")
    blocked_domains: t.Domains = Field((), description="Mail domains that are refused")
    allowed_domains_only: t.Switch = Field(False, description="Refuse every mail domain not in allowed_domains")
    verify_with_resolver: t.Resolver | None = Field(None, description="DNS server that mail domains are looked up with")
    verify_public_ip: t.Switch = Field(True, description="Such a domain must have a mail server on a public address")
    auth_code_ttl: t.Lifetime = Field(600, description="Seconds a relying party may take to redeem a code")
    cache_ttl: t.MaxAge = Field(3600, description="Least seconds a fetched document is kept")
    discovery_timeout: t.Timeout = Field(5, description="Seconds for all of discovery; then a mail is sent instead")
    webfinger_timeout: t.Timeout = Field(5, description="Seconds for a WebFinger request")
    oidc_config_timeout: t.Timeout = Field(5, description="Seconds for an identity provider's configuration")
    oidc_jwks_timeout: t.Timeout = Field(5, description="Seconds for an identity provider's keys")
    mail_wait: t.Wait = Field(
        3, description="Seconds a page waits for the mail's outcome before it shows the code form"
    )
    resend_delay: t.Wait = Field(30, description="Seconds before another mail may be asked for in the same login")
    device_cookie_ttl: t.CookieLifetime = Field(
        0, description="Seconds a device is remembered; 0 = until the browser ends, -1 = no cookie"
    )
    limits: t.Limits = Field(DEFAULT_LIMITS, description="Rate limits, each `flag:flag:COUNT/[N]UNIT`")
    mails_per_address: t.Count = Field(
        30, description="Mails an hour to one address, from all networks; a completed login gives its first one back"
    )
    wrong_codes_per_address: t.Count = Field(
        100, description="Wrong codes an hour for one mail address, over all logins; a fifth of them from one network"
    )
    wrong_codes_per_network: t.Count = Field(100, description="Wrong codes an hour from one client network")
    google_client_id: t.Text | None = Field(None, description="Sign in with Google for gmail.com and googlemail.com")
    domain_overrides: DomainOverrides = Field(
        {}, description="Per mail domain a list of `{rel, href}` in place of discovery; an empty list = no discovery"
    )


class KeySettings(SettingsGroup):
    """The signing keys: which there are, how long they live, how they are kept."""

    readers: ClassVar[tuple[str, ...]] = (AUTH_API, KEY_ROTATOR)

    signing_algs: t.Algorithms = Field(("RS256",), description="Algorithms that ID tokens are signed with")
    keys_ttl: t.Lifetime = Field(86400, description="Seconds a key signs before the next one does; also its max-age")
    token_ttl: t.Lifetime = Field(600, description="Seconds an ID token is valid")
    keyfiles: t.Paths = Field((), description="PEM files with your own signing keys; nothing is rotated then")
    keytext: t.Pem | None = Field(None, description="The same as text")
    key_encryption_key: t.SealingKeys = Field(
        (), description="Seals private keys in Redis; the first one seals, all of them open"
    )


class KeyMakingSettings(SettingsGroup):
    """How new signing keys are made."""

    readers: ClassVar[tuple[str, ...]] = (KEY_ROTATOR,)

    rsa_modulus_bits: t.ModulusBits = Field(2048, description="Size of new RSA keys")
    generate_rsa_command: t.Argv = Field((), description="Deprecated. Command that prints a new RSA key as PEM")

    def cautions(self) -> Findings:
        """What of this group works but should not stay so."""
        yield from super().cautions()
        if self.generate_rsa_command:
            yield "generate_rsa_command", "is deprecated: remove it, and keys are made by the key-rotator itself"


class StoreSettings(SettingsGroup):
    """The embedded store that the launcher starts where no Redis is named."""

    readers: ClassVar[tuple[str, ...]] = (LAUNCHER,)

    memory_storage: t.Switch = Field(False, description="Start a throw-away store; all is lost when the broker stops")
    state_dir: t.Folder | None = Field(
        None, description="Where the embedded store keeps its files; by default in the user's state folder"
    )
