"""A person: a browser (cookies and forms, no scripts) and an inbox."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from html.parser import HTMLParser
from urllib.parse import parse_qsl, urljoin, urlsplit

import httpx
from tests.stack import BOUND, Stack


@dataclass(frozen=True)
class Form:
    """A form of a page: where it leads, and the fields that it brings along."""

    action: str
    fields: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Answer:
    """What a relying party gets: the address that the browser goes to, and the parameters, however they travel."""

    url: str
    fields: Mapping[str, str]
    mode: str


class _Forms(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.forms: list[Form] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.forms.append(Form(given.get("action", "")))
        elif tag == "input" and self.forms:
            self.forms[-1].fields[given["name"]] = given.get("value", "")


def forms(page: httpx.Response) -> list[Form]:
    """Read a page's forms."""
    reader = _Forms()
    reader.feed(page.text)
    return reader.forms


def form_to(path: str, page: httpx.Response) -> Form:
    """Give a page's one form that leads to a path of the broker."""
    [found] = [form for form in forms(page) if form.action == path]
    return found


def answer_of(response: httpx.Response) -> Answer:
    """Read what goes to the relying party: a redirect, or a page that posts there."""
    if response.status_code == 303:
        url = response.headers["location"]
        parts = urlsplit(url)
        mode = "fragment" if parts.fragment else "query"
        return Answer(url, dict(parse_qsl(parts.fragment or parts.query, keep_blank_values=True)), mode)
    assert response.status_code == 200, response.text
    [form] = forms(response)
    assert form.action.startswith("http"), response.text
    return Answer(form.action, form.fields, "form_post")


class Person:
    """Somebody who logs in; `address` is theirs."""

    def __init__(self, stack: Stack, address: str) -> None:
        self.address = address
        self._stack = stack
        # Cookies of http://localhost: the browser that the demo is opened with keeps them the same way.
        self._browser = httpx.Client(timeout=BOUND)

    def open(self, url: str) -> httpx.Response:
        """Follow a link."""
        return self._browser.get(url)

    def submit(self, form: Form, **typed: str) -> httpx.Response:
        """Press a form's button."""
        return self._browser.post(urljoin(self._stack.broker, form.action), data={**form.fields, **typed})

    def log_in(self, url: str) -> Answer:
        """Go to where the site leads, and type the mailed code."""
        page = self.open(url)
        assert page.status_code == 200, page.text
        mail = self._stack.mailbox.wait_for(self.address)
        return answer_of(self.submit(form_to("/confirm", page), code=mail.code))

    def turned_back(self, url: str) -> Answer:
        """Go to where the site leads, and be sent back at once."""
        return answer_of(self.open(url))

    def cancel(self, url: str) -> Answer:
        """Go to where the site leads, and give up there."""
        return answer_of(self.submit(form_to("/cancel", self.open(url))))

    def close(self) -> None:
        self._browser.close()
