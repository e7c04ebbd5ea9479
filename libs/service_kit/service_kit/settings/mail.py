"""The settings of mail delivery, and which of the transports they configure."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from service_kit.settings import types as t
from service_kit.settings.groups import MAILER, Findings, Given, SettingsGroup, need_each_other

# The setting whose presence configures a transport.
TRANSPORTS: dict[t.Transport, str] = {
    "smtp": "smtp_server",
    "sendmail": "sendmail_command",
    "postmark": "postmark_token",
    "mailgun": "mailgun_token",
    "sendgrid": "sendgrid_token",
    "ses": "ses_access_key_id",
    "webhook": "mail_webhook_url",
}


class MailSettings(SettingsGroup):
    """The sender and the ways to send."""

    readers: ClassVar[tuple[str, ...]] = (MAILER,)

    from_name: t.Text = Field("Portier", description="Name that mails come from")
    from_address: t.MailAddress = Field(description="Address that mails come from")
    mail_transports: t.Transports = Field(
        (), description="Ways to send in order of preference; needed only where more than one is configured"
    )
    mail_transport_limits: t.TransportLimits = Field(
        (),
        description="Bounds of a transport in one mailer: `smtp:5` = 5 mails at the same time, `smtp:9/s` = 9 a second",
    )
    mail_concurrency: t.Concurrency = Field(20, description="Mails that one mailer sends at the same time")
    send_email_timeout: t.Timeout = Field(5, description="Seconds until a transport has a mail; its answer may take 35")
    smtp_server: t.SmtpServers = Field(
        (),
        description="`host[:port]` of the mail server, port 25 if none is given; of several, the first that works",
    )
    smtp_username: t.Text | None = Field(None, description="User at the mail server")
    smtp_password: t.Secret | None = Field(None, description="Password at the mail server")
    smtp_security: t.SmtpSecurity = Field(
        "opportunistic",
        description="opportunistic = STARTTLS if offered, starttls = required, tls = from the first byte, off = none",
    )
    smtp_ca_file: t.ExistingFile | None = Field(
        None, description="CA certificates that the mail server's TLS is checked against"
    )
    smtp_client_cert: t.ExistingFile | None = Field(None, description="TLS certificate to show to the mail server")
    smtp_client_key: t.ExistingFile | None = Field(None, description="Private key of smtp_client_cert")
    sendmail_command: t.Text | None = Field(None, description="Path of a program that is called as sendmail is")
    postmark_token: t.Secret | None = Field(None, description="Server token at Postmark")
    postmark_api: t.HttpUrl = Field("https://api.postmarkapp.com/email", description="Where Postmark takes mails")
    mailgun_token: t.Secret | None = Field(None, description="API key at Mailgun")
    mailgun_domain: t.Domain | None = Field(None, description="Sending domain at Mailgun")
    mailgun_api: t.HttpUrl = Field("https://api.mailgun.net/v3", description="Mailgun's API, without the domain")
    sendgrid_token: t.Secret | None = Field(None, description="API key at SendGrid")
    sendgrid_api: t.HttpUrl = Field("https://api.sendgrid.com/v3/mail/send", description="Where SendGrid takes mails")
    ses_access_key_id: t.Text | None = Field(None, description="Access key for Amazon SES")
    ses_secret_access_key: t.Secret | None = Field(None, description="Secret of ses_access_key_id")
    ses_region: t.Region | None = Field(None, description="AWS region whose SES sends")
    ses_api: t.HttpUrl | None = Field(None, description="Another address of that region's SES, such as a VPC endpoint")
    mail_webhook_url: t.HttpUrl | None = Field(None, description="Program of your own that sends the mails it is given")
    mail_webhook_secret: t.WebhookSecret | None = Field(None, description="Key that requests to it are signed with")
    dkim_domain: t.Domain | None = Field(
        None, description="Domain that mails are DKIM-signed for; SMTP and sendmail only"
    )
    dkim_selector: t.Selector | None = Field(None, description="Selector under which the DKIM key is published")
    dkim_key_file: t.ExistingFile | None = Field(None, description="PEM file with the DKIM key")

    @property
    def transports(self) -> tuple[t.Transport, ...]:
        """The transports to use, the preferred one first; empty only where the settings are wrong."""
        return self.mail_transports or tuple(name for name, setting in TRANSPORTS.items() if getattr(self, setting))

    @classmethod
    def disagreements(cls, given: Given) -> Findings:
        """Settings of this group that do not fit together."""
        yield from super().disagreements(given)
        yield from need_each_other(given, "smtp_username", "smtp_password")
        yield from need_each_other(given, "smtp_client_cert", "smtp_client_key")
        yield from need_each_other(given, "mailgun_token", "mailgun_domain")
        yield from need_each_other(given, "ses_access_key_id", "ses_secret_access_key", "ses_region")
        yield from need_each_other(given, "mail_webhook_url", "mail_webhook_secret")
        yield from need_each_other(given, "dkim_domain", "dkim_selector", "dkim_key_file")
        yield from _order_of_transports(given)

    def unusable(self) -> Findings:
        """Bounds that bound nothing, or contradict each other."""
        yield from super().unusable()
        seen = set()
        for limit in self.mail_transport_limits:
            if self.transports and limit.transport not in self.transports:
                yield "mail_transport_limits", f"bounds {limit.transport}, by which no mail goes; leave {limit} out"
            if (limit.transport, limit.seconds > 0) in seen:
                yield (
                    "mail_transport_limits",
                    f"bounds {limit.transport} twice; leave {limit} out, or the one before it",
                )
            seen.add((limit.transport, limit.seconds > 0))

    def cautions(self) -> Findings:
        """What of this group works but should not stay so."""
        yield from super().cautions()
        if self.smtp_server and self.smtp_username and self.smtp_security == "off":
            yield "smtp_security", "is off, so smtp_password crosses the network in the clear"
        if self.smtp_server and self.smtp_username and self.smtp_security == "opportunistic":
            yield "smtp_security", "is opportunistic, so whoever sits on the way can have smtp_password; write starttls"
        sender = self.from_address.rpartition("@")[2].lower()
        if self.dkim_domain and not f".{sender}".endswith(f".{self.dkim_domain}"):
            yield "dkim_domain", f"is not {sender} of from_address nor above it, so DMARC does not count the signature"


def _order_of_transports(given: Given) -> Findings:
    configured = [name for name, setting in TRANSPORTS.items() if given.get(setting)]
    wanted = given.get("mail_transports")
    order = [name for name in wanted if isinstance(name, str)] if isinstance(wanted, list | tuple) else []
    if not configured:
        settings = ", ".join(TRANSPORTS.values())
        yield "mail_transports", f"there is no way to send mail; set one of {settings}"
    elif len(configured) > 1 and not wanted:
        example = ", ".join(f'"{name}"' for name in configured)
        yield "mail_transports", f"several ways to send are configured; say in which order: [{example}], or name one"
    for name, setting in TRANSPORTS.items():
        if configured and name in order and name not in configured:
            yield "mail_transports", f"names {name}, but {setting} is not set; set it, or leave {name} out"
