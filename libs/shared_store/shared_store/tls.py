"""TLS contexts for connections to Redis, made anew when a certificate's or a key's file has changed."""

from __future__ import annotations

import logging
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

TlsVersion = Literal["1.2", "1.3"]
TLS_VERSIONS: Final = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """What a context is made of: PEM files by name, and the lowest version."""

    ca: str | None
    client_cert: str | None
    client_key: str | None
    min_version: ssl.TLSVersion

    def context(self) -> ssl.SSLContext:
        """Make a context that checks the server's certificate and name; with a CA file only that is trusted.

        Raises:
            OSError: a file can't be read, or (ssl.SSLError) is no use.
        """
        made = ssl.create_default_context(cafile=self.ca)
        made.minimum_version = self.min_version
        if self.client_cert:
            made.load_cert_chain(self.client_cert, self.client_key)
        return made

    def stamp(self) -> tuple[tuple[int, int, int], ...]:
        """Give what changes when a file does."""
        files = (Path(name).stat() for name in (self.ca, self.client_cert, self.client_key) if name)
        return tuple((status.st_ino, status.st_mtime_ns, status.st_size) for status in files)


_made: dict[TlsFiles, tuple[object, ssl.SSLContext]] = {}  # one a process and set of files: making one takes long


def context_for(files: TlsFiles) -> ssl.SSLContext:
    """Give the context for these files as they are now; the last good one while they don't fit together.

    Raises:
        OSError: they never were any use.
    """
    stamp, context = _made.get(files, (None, None))
    try:
        now = files.stamp()
        if context is None or now != stamp:
            context = files.context()
            _made[files] = (now, context)
    except OSError as error:
        if context is None:
            raise
        log.warning("tls_files_unusable: %s; going on with those from before", error)
    return context
