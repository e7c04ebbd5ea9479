"""The authorization request: read once, in the order that old clients rely on, into one checked record.

OpenID Connect Core §3.1.2.1 and §3.2.2.1, RFC 7636. Rate limits, domain rules and discovery come after it.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from auth_api.addresses import EmailAddress, parse_address
from auth_api.errors import InvalidAddressError, InvalidOriginError, OAuthError
from auth_api.oidc.origins import MAX_REDIRECT_URI_LENGTH, Origin, parse_redirect_uri
from auth_api.oidc.parameters import Parameters, missing, read_parameters
from auth_api.oidc.records import one_of, read_record, text, text_or_none, texts, write_record
from auth_api.oidc.responses import RESPONSE_MODES, ResponseMode, ReturnAddress
from shared_store.signing_keys import SIGNING_ALGS, SigningAlg

ResponseType = Literal["id_token", "code"]

MAX_PARAMETERS = 100

# What a page answers to when it is wrong or came twice: nobody knows yet where else to send that.
_RETURN_PARAMETERS = {
    "redirect_uri": MAX_REDIRECT_URI_LENGTH,
    "client_id": 300,
    "response_type": 100,
    "response_errors": 10,
    "response_mode": 20,
}
# The most octets of each: what is stored of one request stays below 12 KiB.
_OTHER_PARAMETERS = {
    "state": 4096,
    "nonce": 1024,
    "scope": 1024,
    "id_token_signing_alg": 20,
    "prompt": 200,
    "code_challenge": 200,
    "code_challenge_method": 20,
    "login_hint": 1024,
    "ui_locales": 1024,
}
# Accepted and without effect; but of one that came twice the client can't know which was meant (RFC 6749 §3.1).
_UNUSED_PARAMETERS = {"acr_values": 1024, "claims_locales": 1024, "display": 100, "max_age": 100}
_UNSUPPORTED_PARAMETERS = ("request", "request_uri", "registration")
_RESPONSE_TYPES: tuple[ResponseType, ...] = ("id_token", "code")

_CODE_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}")
_LANGUAGE_TAG = re.compile(r"[A-Za-z]{1,8}(?:-[A-Za-z0-9]{1,8}){0,4}")
_MAX_UI_LOCALES = 10


@dataclass(frozen=True, slots=True)
class AuthorizationPolicy:
    """What the configuration allows: origins of relying parties (None: all) and signing algorithms."""

    allowed_origins: Collection[str] | None
    signing_algs: Collection[SigningAlg]


@dataclass(frozen=True, slots=True)
class AuthorizationRequest:
    """A valid request, made by `parse_authorization_request`; no address means that the person is to be asked."""

    return_address: ReturnAddress
    response_type: ResponseType
    signing_alg: SigningAlg
    nonce: str | None
    code_challenge: str | None
    prompt: tuple[str, ...]
    ui_locales: tuple[str, ...]
    address: EmailAddress | None

    @property
    def client_id(self) -> Origin:
        """The relying party: the origin of its redirect_uri."""
        return self.return_address.redirect_uri.origin

    def parameters(self) -> dict[str, str]:
        """The parameters that make the same request again, without an address: for a person who takes another one."""
        address = self.return_address
        given: dict[str, str | None] = {
            "client_id": str(self.client_id),
            "redirect_uri": str(address.redirect_uri),
            "response_type": self.response_type,
            "response_mode": address.response_mode,
            "response_errors": None if address.response_errors else "false",
            "scope": "openid email",
            "state": address.state,
            "nonce": self.nonce,
            "id_token_signing_alg": self.signing_alg,
            "code_challenge": self.code_challenge,
            "code_challenge_method": "S256" if self.code_challenge else None,
            "prompt": " ".join(self.prompt) or None,
            "ui_locales": " ".join(self.ui_locales) or None,
        }
        return {name: value for name, value in given.items() if value is not None}

    def failure(self, error: str, description: str, *, status: int = 400) -> OAuthError:
        """An error that goes back to this request's relying party."""
        return OAuthError(error, description, status=status, return_address=self.return_address)

    def to_json(self) -> str:
        """The request as it is stored with its login, what is usual left out: each login takes memory."""
        return write_record(
            {
                "redirect_uri": str(self.return_address.redirect_uri),
                "response_mode": self.return_address.response_mode,
                "response_errors": None if self.return_address.response_errors else False,
                "state": self.return_address.state,
                "response_type": self.response_type,
                "signing_alg": self.signing_alg,
                "nonce": self.nonce,
                "code_challenge": self.code_challenge,
                "prompt": self.prompt or None,
                "ui_locales": self.ui_locales or None,
                "login_hint": self.address.original if self.address else None,
            }
        )

    @classmethod
    def from_json(cls, stored: str | bytes) -> "AuthorizationRequest":
        """Read a stored request.

        Raises:
            CorruptRecordError: it is not one that this version wrote.
        """
        return read_record(stored, _from_fields)


def parse_authorization_request(
    params: Sequence[tuple[str, str]], *, policy: AuthorizationPolicy, can_ask_for_address: bool = True
) -> AuthorizationRequest:
    """Check a request's decoded parameters, in the contract's order of steps.

    `can_ask_for_address` is false for a client that speaks JSON: there is no page, so it must say who it is.

    Raises:
        OAuthError: the first rule broken; without a return address until the redirect_uri is known to be the
            client's own and allowed, with one from there on.
    """
    if len(params) > MAX_PARAMETERS:
        raise OAuthError("invalid_request", f"more than {MAX_PARAMETERS} request parameters")
    given = read_parameters(params)
    given.check_form(_RETURN_PARAMETERS)
    return_address = _parse_return_address(given, policy.allowed_origins)
    try:
        return _parse_rest(given, return_address, policy, can_ask_for_address=can_ask_for_address)
    except OAuthError as error:
        error.return_address = return_address
        raise


def wanted_languages(params: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    """The usable tags of `ui_locales` in their order, also of a request that is otherwise at fault."""
    tags = next((value for name, value in params if name == "ui_locales"), "").split()
    return tuple(tag for tag in tags if _LANGUAGE_TAG.fullmatch(tag))[:_MAX_UI_LOCALES]


def _parse_return_address(given: Parameters, allowed_origins: Collection[str] | None) -> ReturnAddress:
    """Steps 1 to 6, and 9: nothing is sent to a site that is not allowed here."""
    for name in ("redirect_uri", "client_id", "response_type"):
        if name not in given:
            raise missing(name)
    response_errors = given.get("response_errors", "true")
    if response_errors not in {"true", "false"}:
        raise OAuthError("invalid_request", "response_errors must be true or false")
    if given["response_type"] not in _RESPONSE_TYPES:
        raise OAuthError("invalid_request", "unsupported response_type, must be id_token or code")
    response_mode = _response_mode(given)
    try:
        redirect_uri = parse_redirect_uri(given["redirect_uri"])
    except InvalidOriginError as error:
        raise OAuthError("invalid_request", f"the redirect_uri is not usable: {error}") from error
    if given["client_id"] != str(redirect_uri.origin):
        raise OAuthError("invalid_request", "the client_id must be the origin of the redirect_uri")
    if allowed_origins is not None and given["client_id"] not in allowed_origins:
        raise OAuthError("invalid_request", "the origin of the redirect_uri is not allowed to use this service")
    # A state that is itself at fault does not even go back with the error that says so.
    state_is_usable = given.problem_of_form("state", _OTHER_PARAMETERS["state"]) is None
    state = given.optional("state") if state_is_usable else None
    return ReturnAddress(redirect_uri, response_mode, response_errors == "true", state)


def _response_mode(given: Parameters) -> ResponseMode:
    default: ResponseMode = "fragment" if given["response_type"] == "id_token" else "query"
    wanted = given.get("response_mode", default)
    for response_mode in RESPONSE_MODES:
        if wanted == response_mode:
            return response_mode
    raise OAuthError("invalid_request", "unsupported response_mode, must be fragment, form_post or query")


def _parse_rest(
    given: Parameters,
    return_address: ReturnAddress,
    policy: AuthorizationPolicy,
    *,
    can_ask_for_address: bool,
) -> AuthorizationRequest:
    """Steps 7 to 13."""
    for name in _UNSUPPORTED_PARAMETERS:
        if name in given:
            raise OAuthError(f"{name}_not_supported", f"the request parameter {name} is not supported")
    given.check_form(_OTHER_PARAMETERS | _UNUSED_PARAMETERS)
    response_type: ResponseType = "id_token" if given["response_type"] == "id_token" else "code"
    if response_type == "id_token" and "nonce" not in given:
        raise missing("nonce")
    if "openid" not in given.get("scope").split(" "):
        raise OAuthError("invalid_request", "unsupported scope, must contain 'openid'")
    signing_alg = _signing_alg(given, policy.signing_algs)
    prompt = _prompt(given)
    code_challenge = _code_challenge(given)
    return AuthorizationRequest(
        return_address=return_address,
        response_type=response_type,
        signing_alg=signing_alg,
        nonce=given.optional("nonce"),
        code_challenge=code_challenge,
        prompt=prompt,
        ui_locales=wanted_languages(list(given.values.items())),
        address=_address(given, prompt, can_ask_for_address=can_ask_for_address),
    )


def _signing_alg(given: Parameters, offered: Collection[SigningAlg]) -> SigningAlg:
    wanted = given.get("id_token_signing_alg", "RS256")
    for alg in SIGNING_ALGS:
        if wanted == alg and alg in offered:
            return alg
    raise OAuthError(
        "invalid_request", f"unsupported id_token_signing_alg, must be one of {', '.join(sorted(offered))}"
    )


def _prompt(given: Parameters) -> tuple[str, ...]:
    prompt = tuple(dict.fromkeys(given.get("prompt").split()))
    if "none" in prompt and len(prompt) > 1:
        raise OAuthError("invalid_request", "prompt must not mix none with other values")
    return prompt


def _code_challenge(given: Parameters) -> str | None:
    """RFC 7636 §4.3, with S256 alone: `plain`, also by leaving the method out, protects nothing here."""
    challenge = given.optional("code_challenge")
    if challenge is None:
        if "code_challenge_method" in given:
            raise missing("code_challenge")
        return None
    if given.get("code_challenge_method") != "S256":
        raise OAuthError("invalid_request", "unsupported code_challenge_method, must be S256")
    if not _CODE_CHALLENGE.fullmatch(challenge):
        raise OAuthError("invalid_request", "code_challenge must be 43 characters of unpadded base64url")
    return challenge


def _address(given: Parameters, prompt: tuple[str, ...], *, can_ask_for_address: bool) -> EmailAddress | None:
    login_hint = given.get("login_hint")
    if not login_hint and can_ask_for_address:
        if "none" in prompt:
            raise OAuthError("login_required", "without a login_hint the person has to be asked who they are")
        return None
    try:
        return parse_address(login_hint)
    except InvalidAddressError as error:
        raise OAuthError("invalid_request", f"login_hint is not a valid email address: {error}") from error


def _from_fields(fields: Mapping[str, Any]) -> AuthorizationRequest:
    login_hint = text_or_none(fields, "login_hint")
    return AuthorizationRequest(
        return_address=ReturnAddress(
            redirect_uri=parse_redirect_uri(text(fields, "redirect_uri")),
            response_mode=one_of(RESPONSE_MODES, fields, "response_mode"),
            response_errors=fields.get("response_errors", True) is True,
            state=text_or_none(fields, "state"),
        ),
        response_type=one_of(_RESPONSE_TYPES, fields, "response_type"),
        signing_alg=one_of(SIGNING_ALGS, fields, "signing_alg"),
        nonce=text_or_none(fields, "nonce"),
        code_challenge=text_or_none(fields, "code_challenge"),
        prompt=texts(fields, "prompt"),
        ui_locales=texts(fields, "ui_locales"),
        address=None if login_hint is None else parse_address(login_hint),
    )
