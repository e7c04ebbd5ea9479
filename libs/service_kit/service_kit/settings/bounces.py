"""The settings of bounces and complaints: which providers may report them, and what is kept of that."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from service_kit.settings import types as t
from service_kit.settings.groups import AUTH_API, MAILER, SettingsGroup


class SuppressionSettings(SettingsGroup):
    """Which addresses are not mailed any more, and for how long."""

    readers: ClassVar[tuple[str, ...]] = (AUTH_API, MAILER)

    suppression_key: t.SealingKey | None = Field(
        None, description="Turns on the list of addresses that mail came back from, and keeps them unreadable in Redis"
    )
    suppression_ttl: t.Lifetime = Field(2_592_000, description="Seconds an address stays on that list")


class WebhookSettings(SettingsGroup):
    """How providers' reports of bounces and complaints are known to be theirs; each turns one of /webhooks/… on."""

    readers: ClassVar[tuple[str, ...]] = (AUTH_API,)

    postmark_webhook_secret: t.SealingKey | None = Field(
        None, description="Password, or last part of the URL, in Postmark's calls of /webhooks/postmark"
    )
    mailgun_webhook_key: t.Secret | None = Field(
        None, description="HTTP webhook signing key at Mailgun, for /webhooks/mailgun"
    )
    sendgrid_webhook_key: t.Text | None = Field(
        None, description="Verification key of SendGrid's Signed Event Webhook, for /webhooks/sendgrid"
    )
