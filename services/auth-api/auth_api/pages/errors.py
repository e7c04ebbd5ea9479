"""What can be wrong with pages.

PagesError
├── OverrideError   a file in the operator's data_dir cannot be used; found at start
└── UnsafeUrlError  a page was given an address that must not become a link or a form's target
"""


class PagesError(Exception):
    """Base of everything this package raises."""


class OverrideError(PagesError):
    """A template, static file or catalogue cannot be used; the message names the file and what to do."""


class UnsafeUrlError(PagesError):
    """An address is neither http(s) nor a path of our own, so no page may point there."""
