"""User and password for Redis, read again from their file: they can be changed without a restart."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from redis.credentials import CredentialProvider

from shared_store.store_url import StoreUrl, StoreUrlError

MOST_BYTES = 10_000

log = logging.getLogger(__name__)


class Credentials(CredentialProvider):
    """Gives what AUTH takes, each time that a connection is opened.

    From the file only user and password are taken: a URL that names another server needs a restart. A file that can't
    be read at the moment, or is half written, changes nothing.
    """

    def __init__(self, url: StoreUrl, file: Path | None = None, *, for_sentinels: bool = False) -> None:
        self._url = url
        self._file = file
        self._for_sentinels = for_sentinels
        self._given = self._words()

    def __deepcopy__(self, _memo: dict[int, Any]) -> Self:
        """Stay one: redis-py copies its retry policy, and that asks whether the credentials changed."""
        return self

    def get_credentials(self) -> tuple[()] | tuple[str] | tuple[str, str]:  # type: ignore[override]  # () = no AUTH
        """Give user and password, the password alone, or nothing."""
        self._given = self._words()
        return self._given

    async def get_credentials_async(self) -> tuple[()] | tuple[str] | tuple[str, str]:  # type: ignore[override]
        """Give the same; the file is small, and local."""
        return self.get_credentials()

    def changed(self) -> bool:
        """Tell whether the file holds others than were given last."""
        return self._words() != self._given

    def _words(self) -> tuple[()] | tuple[str] | tuple[str, str]:
        self._url = self._read()
        user, password = self._url.username, self._url.password
        if self._for_sentinels:
            user, password = self._url.sentinel_username, self._url.sentinel_password
        if password is None:
            return ()
        return (password,) if user is None else (user, password)

    def _read(self) -> StoreUrl:
        if self._file is None:
            return self._url
        try:
            with self._file.open("rb") as file:
                told = StoreUrl.parse(file.read(MOST_BYTES).decode().strip())
        except (OSError, UnicodeDecodeError, StoreUrlError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            log.warning("redis_url_file_unreadable: %s: %s", self._file, reason)
            return self._url
        taken = replace(
            self._url,
            username=told.username,
            password=told.password,
            sentinel_username=told.sentinel_username,
            sentinel_password=told.sentinel_password,
        )
        if taken != told:
            log.warning("redis_url_file_names_another_server: restart to use it, or put the old address back")
            return self._url
        return taken
