"""One configuration for all services: every setting, its sources, and one typed class a service.

class Settings(CommonSettings, KeySettings): ...
loaded = load(Settings, service="key-rotator", config_path="broker.toml")
"""

from service_kit.settings.bounces import SuppressionSettings, WebhookSettings
from service_kit.settings.catalogue import GROUPS, INTERNAL_PORTS, Setting, catalogue
from service_kit.settings.describing import describe
from service_kit.settings.groups import (
    AUTH_API,
    DEFAULT_LIMITS,
    KEY_ROTATOR,
    LAUNCHER,
    MAILER,
    CommonSettings,
    HttpSettings,
    KeyMakingSettings,
    KeySettings,
    LoginSettings,
    QueueSettings,
    SettingsGroup,
    StoreSettings,
)
from service_kit.settings.links import Link
from service_kit.settings.loading import DEFAULT, Loaded, load
from service_kit.settings.mail import MailSettings
from service_kit.settings.types import Algorithm, HostPort, SecretUrl, Transport, TransportLimit, mask_url

__all__ = [
    "AUTH_API",
    "DEFAULT",
    "DEFAULT_LIMITS",
    "GROUPS",
    "INTERNAL_PORTS",
    "KEY_ROTATOR",
    "LAUNCHER",
    "MAILER",
    "Algorithm",
    "CommonSettings",
    "HostPort",
    "HttpSettings",
    "KeyMakingSettings",
    "KeySettings",
    "Link",
    "Loaded",
    "LoginSettings",
    "MailSettings",
    "QueueSettings",
    "SecretUrl",
    "Setting",
    "SettingsGroup",
    "StoreSettings",
    "SuppressionSettings",
    "Transport",
    "TransportLimit",
    "WebhookSettings",
    "catalogue",
    "describe",
    "load",
    "mask_url",
]
