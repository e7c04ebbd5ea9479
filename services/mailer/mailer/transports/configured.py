"""From settings to transports, in the order in which they are to be asked."""

from collections.abc import Callable, Mapping

from mailer.errors import TransportError
from mailer.settings import Settings
from mailer.transports.base import Transport
from mailer.transports.smtp import SmtpOptions, SmtpTransport


def transports_of(settings: Settings) -> list[Transport]:
    """Make the transports that are configured.

    Raises:
        TransportError: one can't be set up.
    """
    return [_MAKERS[name](settings) for name in settings.transports]


def _smtp(settings: Settings) -> Transport:
    if settings.smtp_server is None:
        raise TransportError("mail_transports names smtp, but smtp_server is not set")
    password = settings.smtp_password
    return SmtpTransport(
        SmtpOptions(
            server=settings.smtp_server,
            security=settings.smtp_security,
            username=settings.smtp_username,
            password=None if password is None else password.get_secret_value(),
            timeout=settings.send_email_timeout,
            ca_file=settings.smtp_ca_file,
            client_cert=settings.smtp_client_cert,
            client_key=settings.smtp_client_key,
        )
    )


_MAKERS: Mapping[str, Callable[[Settings], Transport]] = {"smtp": _smtp}
