"""What people see: pages, their languages and their static files. No rules of the protocol, and no web framework."""

from auth_api.pages.errors import UnsafeUrlError
from auth_api.pages.languages import Locale, negotiate
from auth_api.pages.rendering import ErrorKind, Notice, Pages
from auth_api.pages.static_files import StaticFile

__all__ = [
    "ErrorKind",
    "Locale",
    "Notice",
    "Pages",
    "StaticFile",
    "UnsafeUrlError",
    "negotiate",
]
