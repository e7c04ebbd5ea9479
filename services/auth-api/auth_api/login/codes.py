"""The code that is mailed: how it is made, shown and read back."""

import re
import secrets

ALPHABET = "13456789abcdefghijkmnopqrstuwxyz"
LENGTH = 12  # 60 bits

_MAX_TYPED = 200
_WHITE_SPACE = re.compile(r"[\s\u200b\u2060\ufeff-]+")


def new_code() -> str:
    """Make a code: 12 characters, each of the alphabet equally likely."""
    return "".join(secrets.choice(ALPHABET) for _ in range(LENGTH))


def read_code(typed: str) -> str:
    """Read what a person typed or pasted: any spaces, any case. Any text is taken; a wrong one is a wrong guess."""
    return _WHITE_SPACE.sub("", typed[:_MAX_TYPED]).lower()
