"""What people see: pages, their languages and their static files. No rules of the protocol, and no web framework."""

from .errors import OverrideError, PagesError, UnsafeUrlError
from .languages import Locale, negotiate
from .rendering import ErrorKind, Notice, Pages
from .static_files import StaticFile

__all__ = [
    "ErrorKind",
    "Locale",
    "Notice",
    "OverrideError",
    "Pages",
    "PagesError",
    "StaticFile",
    "UnsafeUrlError",
    "negotiate",
]
