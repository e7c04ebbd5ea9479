"""redis-py's connections, sending without `asyncio.wait_for`, and with certificates that may change.

On Python 3.11 `wait_for` swallows a cancellation that comes in the moment in which what it waits for ends: a task that
is told to stop would go on for ever. It also makes a task for every command that is sent.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterable, Mapping
from typing import Any

from redis import asyncio as redis
from redis import exceptions
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.sentinel import SentinelManagedConnection, SentinelManagedSSLConnection

from shared_store.tls import TlsFiles, context_for
from shared_store.tls_problems import CLOSED, shown_certificate


class _Sending(AbstractConnection):
    """Overrides how a command goes out; time-outs and failures are those of redis-py."""

    async def send_packed_command(self, command: bytes | str | Iterable[bytes], check_health: bool = True) -> None:
        if not self.is_connected:
            await self.connect_check_health(check_health=False)
        if check_health:
            await self.check_health()  # type: ignore[no-untyped-call]
        packed = command.encode() if isinstance(command, str) else command
        try:
            async with asyncio.timeout(self.socket_timeout):
                await self._send_packed_command([packed] if isinstance(packed, bytes) else packed)
        except TimeoutError:
            await self.disconnect(nowait=True)
            raise exceptions.TimeoutError("Timeout writing to socket") from None
        except (OSError, RuntimeError) as error:  # RuntimeError: uvloop's, where another task has closed it
            await self.disconnect(nowait=True)
            raise exceptions.ConnectionError(f"Error while writing to socket: {error}") from error
        except BaseException:
            # Who knows how much of the command went out: nothing else may follow it on this connection.
            await self.disconnect(nowait=True)
            raise


class _ReadingCertificates(redis.SSLConnection):
    """Takes certificate and key as their files are when it connects; redis-py reads them once a connection object."""

    def _connection_arguments(self) -> Mapping[str, Any]:
        told = self.ssl_context
        files = TlsFiles(told.ca_certs, told.certfile, told.keyfile, told.min_version or ssl.TLSVersion.TLSv1_2)
        told.context = context_for(files)
        return super()._connection_arguments()

    async def on_connect_check_health(self, check_health: bool = True) -> None:
        try:
            await super().on_connect_check_health(check_health)
        except exceptions.ConnectionError as error:
            if type(error) is not exceptions.ConnectionError or isinstance(error.__context__, ssl.SSLError):
                raise
            # The server's reason is lost: in TLS 1.3 it comes after our first words, which a closed socket resets.
            seen = shown_certificate(self.ssl_context.certfile)
            raise exceptions.ConnectionError(f"{CLOSED}, {seen}: {error}") from error


class PlainConnection(_Sending, redis.Connection):
    """TCP."""


class TlsConnection(_Sending, _ReadingCertificates):
    """TCP with TLS."""


class SocketConnection(_Sending, redis.UnixDomainSocketConnection):
    """A unix socket."""


class SentinelConnection(_Sending, SentinelManagedConnection):
    """TCP to the master that the sentinels name."""


class SentinelTlsConnection(_Sending, SentinelManagedSSLConnection, _ReadingCertificates):
    """TCP with TLS to the master that the sentinels name."""
