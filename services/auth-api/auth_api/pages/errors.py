"""What can be wrong with pages, beside an operator's own templates and catalogues (service_kit's OverrideError)."""


class UnsafeUrlError(Exception):
    """An address is neither http(s) nor a path of our own, so no page may point there."""
