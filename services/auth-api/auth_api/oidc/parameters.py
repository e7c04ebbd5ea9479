"""A request's decoded parameters: each at most once, bounded, and text that can be stored and sent back."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from auth_api.errors import OAuthError

_UNUSABLE_CHARACTERS = re.compile(r"[\x00\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Parameters:
    """The parameters by name, made by `read_parameters`; of one that came several times none is to be believed."""

    values: Mapping[str, str]
    doubled: frozenset[str]

    def __contains__(self, name: str) -> bool:
        return name in self.values

    def __getitem__(self, name: str) -> str:
        return self.values[name]

    def get(self, name: str, default: str = "") -> str:
        """The parameter's value, or the default where it was left out."""
        return self.values.get(name, default)

    def optional(self, name: str) -> str | None:
        """The parameter's value, None where it was left out."""
        return self.values.get(name)

    def check_form(self, max_octets: Mapping[str, int]) -> None:
        """Check the form of the named parameters, whose greatest lengths in octets of UTF-8 are given.

        Raises:
            OAuthError: `invalid_request`, for the first that came twice, is too long or no usable text.
        """
        for name, limit in max_octets.items():
            problem = self.problem_of_form(name, limit)
            if problem:
                raise OAuthError("invalid_request", problem)

    def problem_of_form(self, name: str, max_octets: int) -> str | None:
        """What is wrong with the form of one parameter, None where nothing is."""
        value = self.get(name)
        if name in self.doubled:
            return f"the request parameter {name} came more than once"
        if _UNUSABLE_CHARACTERS.search(value):
            return f"the request parameter {name} is not usable text"
        if len(value) > max_octets or len(value.encode()) > max_octets:
            return f"the request parameter {name} is too long, at most {max_octets} octets are accepted"
        return None


def read_parameters(pairs: Sequence[tuple[str, str]]) -> Parameters:
    """Take decoded pairs of a query or form, in their order.

    RFC 6749 §3.1: a parameter without a value counts as left out; an empty `state` still has to go back.
    """
    counts = Counter(name for name, _ in pairs)
    return Parameters(
        values={name: value for name, value in pairs if value or name == "state"},
        doubled=frozenset(name for name, count in counts.items() if count > 1),
    )


def missing(name: str) -> OAuthError:
    """The error for a parameter that was left out, in the words that clients' tests know."""
    return OAuthError("invalid_request", f"missing request parameter {name}")
