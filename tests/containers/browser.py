"""A relying party and a person's browser, as far as a login needs them."""

import hashlib
import re
import secrets
from base64 import urlsafe_b64encode
from html import unescape
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx
import jwt

from .engine import BOUND, Mail, Project

SITE = "https://site.example"


class Login:
    """One login, from the site's button to the verified token."""

    def __init__(self, project: Project, *, code_flow: bool = False) -> None:
        self.address = f"{secrets.token_hex(8)}@portier.test"
        self._project = project
        self._code_flow = code_flow
        self._nonce = secrets.token_hex(8)
        self._verifier = secrets.token_urlsafe(32)
        self._cookies = httpx.Cookies()

    def _ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        with httpx.Client(base_url=self._project.broker, timeout=BOUND, cookies=self._cookies) as client:
            answer = client.request(method, path, **more)
            self._cookies = client.cookies
        return answer

    def begin(self) -> None:
        challenge = urlsafe_b64encode(hashlib.sha256(self._verifier.encode()).digest()).rstrip(b"=").decode()
        flow = (
            {"response_mode": "query", "code_challenge": challenge, "code_challenge_method": "S256"}
            if self._code_flow
            else {"response_mode": "form_post"}
        )
        answer = self._ask(
            "GET",
            "/auth",
            params={
                "client_id": SITE,
                "redirect_uri": f"{SITE}/callback",
                "response_type": "code" if self._code_flow else "id_token",
                "scope": "openid email",
                "nonce": self._nonce,
                "state": "s",
                "login_hint": self.address,
                **flow,
            },
        )
        assert answer.status_code == 200, answer.text

    def confirm(self, mail: Mail | None = None) -> str:
        """Open the mailed link and go on from there; the ID token, or the authorization code."""
        mail = mail or self._project.mail(self.address)
        link = self._ask("GET", "/confirm", params={"session": mail.session, "code": mail.code})
        assert link.status_code == 200, link.text
        answer = self._ask("POST", "/confirm", data={"session": mail.session, "code": mail.code})
        if self._code_flow:
            assert answer.status_code == 303, answer.text
            return dict(parse_qsl(urlsplit(answer.headers["location"]).query))["code"]
        assert answer.status_code == 200, answer.text
        fields = dict(re.findall(r'name="(\w+)" value="([^"]*)"', answer.text))
        return unescape(fields["id_token"])

    def redeem(self, code: str) -> str:
        """The ID token for an authorization code."""
        form = {"grant_type": "authorization_code", "code": code, "code_verifier": self._verifier, "client_id": SITE}
        answer = self._ask("POST", "/token", data=form)
        assert answer.status_code == 200, answer.text
        token: str = answer.json()["id_token"]
        return token

    def verify(self, token: str) -> None:
        """Hold a token against keys.json, as a site does."""
        kid = jwt.get_unverified_header(token)["kid"]
        keys = jwt.PyJWKSet.from_dict(self._ask("GET", "/keys.json").raise_for_status().json())
        claims: dict[str, Any] = jwt.decode(
            token, keys[kid].key, algorithms=["RS256"], audience=SITE, issuer=self._project.broker
        )
        assert claims["email"] == self.address
        assert claims["nonce"] == self._nonce
