"""The shape of `domain_overrides`: what WebFinger would have said of a domain."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict

from service_kit.settings.types import Advice, Domain, HttpUrl, Text


class Link(BaseModel):
    """A link of a WebFinger answer (RFC 7033 4.4.4)."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    rel: Text
    href: HttpUrl


DomainOverrides = Annotated[
    dict[Domain, tuple[Link, ...]],
    Advice('a table like "example.com" = [{ rel = "https://portier.io/specs/auth/1.0/idp", href = "https://…" }]'),
]
