"""What can go wrong in auth-api, as one tree.

AuthApiError
  InvalidDomainError        a text is no domain name
  InvalidAddressError       a text is no e-mail address; `problem` says why
  InvalidOriginError        a text is no origin, or no redirect_uri, of a relying party
  InvalidLimitError         a rate limit of the configuration cannot be read
  CorruptRecordError        something stored earlier cannot be read back
  ProviderTokenError        an identity provider's ID token is not to be believed
  DiscoveryError            what is to be asked of another server can't be had, or not be used
    HostError               it can't be reached at all
    StatusError             it answers with an HTTP status other than success
  ListenError               the address to listen on can't be had
  CommandError              a command of the command line can't do its work
  NoSigningKeyError         there is nothing to sign with yet
  TooManyAttemptsError      a rate limit is exceeded
  LoginGoneError            a login is unknown, expired or over
  WebhookKeyError           the key that a mail provider's calls are checked with is no such key
  OAuthError                an answer of the protocol: error code, description, status, where it goes
    MailCameBackError       mail to the address came back, so none is sent
        MailRefusedError    it was refused just now
    WebhookRefusedError     a mail provider's call is not the provider's, or too old
    WebhookMalformedError   a mail provider's call is not in the provider's form
    BearerError             the same for an access token, with its WWW-Authenticate value
"""

import math
from enum import Enum
from typing import TYPE_CHECKING

from service_kit.errors import ServiceKitError

if TYPE_CHECKING:
    from auth_api.oidc.authorization_request import AuthorizationRequest
    from auth_api.oidc.responses import ReturnAddress


class AuthApiError(Exception):
    """Everything this package raises on purpose."""


class InvalidDomainError(AuthApiError):
    """A text is not a domain name that browsers and mail servers would agree on."""


class AddressProblem(Enum):
    """Why a text is no e-mail address; the value is the text for a person."""

    TOO_LONG = "the address is too long"
    NO_AT_SIGN = "the @ is missing"
    NO_LOCAL_PART = "the part before the @ is missing"
    LOCAL_PART_TOO_LONG = "the part before the @ is longer than 64 octets"
    LOCAL_PART_CHARACTERS = "the part before the @ has characters that are not allowed there"
    NO_DOMAIN = "the domain is missing"
    ONE_LABEL = "the domain has no dot"
    IP_ADDRESS = "the domain is a number or an IP address"
    DOMAIN = "the domain is not valid"


class InvalidAddressError(AuthApiError):
    """A text is no e-mail address."""

    def __init__(self, problem: AddressProblem) -> None:
        super().__init__(problem.value)
        self.problem = problem


class InvalidOriginError(AuthApiError):
    """A text is no origin, or no redirect_uri, that every browser reads the same way."""


class InvalidLimitError(AuthApiError):
    """A rate limit of the configuration cannot be read; the message quotes it and says what is wrong."""


class CorruptRecordError(AuthApiError):
    """A record read back is not one that this version wrote."""


class ProviderTokenError(AuthApiError):
    """An identity provider's ID token is not to be believed; the message names the failed check."""


class DiscoveryError(AuthApiError):
    """What is to be asked of another server can't be had or can't be used; the message says why, in a few words."""


class HostError(DiscoveryError):
    """A server can't be reached, or not in time: whatever else were asked of it, it would be the same."""


class StatusError(DiscoveryError):
    """A server answered, but with an HTTP status other than success."""

    def __init__(self, status: int) -> None:
        super().__init__(f"it answers with HTTP status {status}")
        self.status = status


class ListenError(AuthApiError, ServiceKitError):
    """The address to listen on can't be had; the message names the settings. Told on one line at start."""


class CommandError(AuthApiError, ServiceKitError):
    """A command of the command line can't do its work; the message says why, on one line."""


class NoSigningKeyError(AuthApiError):
    """There is nothing to sign with yet; it passes once key-rotator has made a key."""


class TooManyAttemptsError(AuthApiError):
    """A rate limit is exceeded; `retry_after` is in seconds."""

    def __init__(self, limit: str, retry_after: float) -> None:
        super().__init__(f"the limit {limit} is exceeded")
        self.retry_after = max(1, math.ceil(retry_after))


class LoginGoneError(AuthApiError):
    """A login is unknown, has expired, or is over: nobody learns which."""


class OAuthError(AuthApiError):
    """An error of the protocol (RFC 6749 §4.1.2.1, §5.2).

    With a `return_address` it goes back to the relying party, else it is shown here with `status`.
    """

    def __init__(
        self,
        error: str,
        description: str,
        *,
        status: int = 400,
        return_address: "ReturnAddress | None" = None,
    ) -> None:
        super().__init__(f"{error}: {description}")
        self.error = error
        self.description = description
        self.status = status
        self.return_address = return_address


class MailCameBackError(OAuthError):
    """Mail to the request's address came back not long ago, so none is sent now; programs are told, people get a page.

    It is not sent back to the relying party, where nobody could choose another address.
    """

    description = "mail to the address of login_hint came back, so no other is sent for now"

    def __init__(self, request: "AuthorizationRequest") -> None:
        super().__init__("invalid_request", self.description)
        self.request = request


class MailRefusedError(MailCameBackError):
    """The mail was refused for good while the page waited; told as one that came back."""

    description = "login_hint is not a valid email address: no mail can be sent to it"


class WebhookRefusedError(OAuthError):
    """A call of a mail provider's webhook is not the provider's, or too old."""

    def __init__(self, description: str) -> None:
        super().__init__("access_denied", description, status=401)


class WebhookMalformedError(OAuthError):
    """A call of a mail provider's webhook is not in the provider's form."""

    def __init__(self, description: str) -> None:
        super().__init__("invalid_request", description)


class WebhookKeyError(AuthApiError):
    """The key that a provider's calls are checked with is no such key."""


class BearerError(OAuthError):
    """A request to a protected resource lacks a usable access token (RFC 6750 §3)."""

    def __init__(self, error: str, description: str, *, status: int, www_authenticate: str) -> None:
        super().__init__(error, description, status=status)
        self.www_authenticate = www_authenticate
