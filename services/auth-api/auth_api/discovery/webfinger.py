"""WebFinger (RFC 7033): which identity provider a mail domain names for an address."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal
from urllib.parse import quote, urlencode

from auth_api.addresses import EmailAddress
from auth_api.discovery.safe_http import check_url
from auth_api.errors import DiscoveryError

Rel = Literal["portier", "google"]

RELS: Mapping[str, Rel] = {
    "https://portier.io/specs/auth/1.0/idp": "portier",
    "https://portier.io/specs/auth/1.0/idp/google": "google",
}
_NAMES: Mapping[Rel, str] = {rel: name for name, rel in RELS.items()}
GOOGLE = "https://accounts.google.com"
GOOGLE_DOMAINS = frozenset({"gmail.com", "googlemail.com"})

MOST_LINKS = 100  # of a document that are looked at


@dataclass(frozen=True, slots=True)
class Link:
    """A usable link: the kind of provider, and its origin."""

    rel: Rel
    origin: str


GOOGLE_LINK = Link("google", GOOGLE)


def webfinger_url(address: EmailAddress) -> str:
    """Where an address's domain tells its provider. It names the address: providers may differ within a domain."""
    query = [("resource", f"acct:{address}"), *(("rel", rel) for rel in RELS)]
    return f"https://{address.domain}/.well-known/webfinger?{urlencode(query, quote_via=quote)}"


def read_links(document: Mapping[str, object], *, own_url: str, development: bool = False) -> list[Link]:
    """Give the usable links of a JRD (RFC 7033 section 4.4), in their order. Those that lead back here are none.

    A JRD is what a server sends, and what `write_links` writes.

    Raises:
        DiscoveryError: it is no JRD.
    """
    links = document.get("links", [])
    if not isinstance(links, list):
        raise DiscoveryError("links is not a list")
    pairs = [(link.get("rel"), link.get("href")) for link in links[:MOST_LINKS] if isinstance(link, dict)]
    return usable_links(pairs, own_url=own_url, development=development)


def usable_links(pairs: Iterable[tuple[object, object]], *, own_url: str, development: bool = False) -> list[Link]:
    """Give the usable ones of pairs of rel and href: a relation of Portier, and an origin alone that may be asked."""
    found = []
    for rel, href in pairs:
        if not (isinstance(rel, str) and isinstance(href, str) and rel in RELS):
            continue
        origin = href.removesuffix("/")
        if origin != own_url and _is_origin(origin, development=development):
            found.append(Link(RELS[rel], origin))
    return found


def write_links(links: Sequence[Link]) -> str:
    """Write links for the cache; one is enough, since the first counts."""
    return json.dumps({"links": [{"rel": _NAMES[link.rel], "href": link.origin} for link in links[:1]]})


def _is_origin(text: str, *, development: bool) -> bool:
    try:
        check_url(text, development=development)
    except DiscoveryError:
        return False
    return text.count("/") == 2 and "?" not in text
