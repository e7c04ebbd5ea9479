"""An SMTP server that takes every mail at once, or after a delay, and hands its text to whoever waits for it."""

import asyncio
from collections.abc import Callable
from typing import cast

Deliver = Callable[[str, bytes], None]


class SinkProtocol(asyncio.Protocol):
    """One connection; understands pipelined commands."""

    def __init__(self, deliver: Deliver, delay: float) -> None:
        self._deliver = deliver
        self._delay = delay
        self._buffer = b""
        self._recipient = ""
        self._in_data = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are none by inheritance
        self._transport.write(b"220 sink\r\n")

    def data_received(self, data: bytes) -> None:
        """Take commands and mails as they come."""
        self._buffer += data
        while True:
            if self._in_data:
                mail, end, rest = self._buffer.partition(b"\r\n.\r\n")
                if not end:
                    return
                self._buffer, self._in_data = rest, False
                self._accept(mail)
                continue
            line, end, rest = self._buffer.partition(b"\r\n")
            if not end:
                return
            self._buffer = rest
            self._command(line)

    def _command(self, line: bytes) -> None:
        verb = line[:4].upper()
        if verb == b"EHLO":
            self._transport.write(b"250-sink\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SMTPUTF8\r\n")
        elif verb == b"RCPT":
            self._recipient = line.partition(b"<")[2].partition(b">")[0].decode()
            self._transport.write(b"250 ok\r\n")
        elif verb == b"DATA":
            self._in_data = True
            self._transport.write(b"354 go on\r\n")
        elif verb == b"QUIT":
            self._transport.write(b"221 bye\r\n")
            self._transport.close()
        else:
            self._transport.write(b"250 ok\r\n")

    def _accept(self, mail: bytes) -> None:
        if self._delay:
            asyncio.get_running_loop().call_later(self._delay, self._take, self._recipient, mail)
        else:
            self._take(self._recipient, mail)

    def _take(self, recipient: str, mail: bytes) -> None:
        self._transport.write(b"250 taken\r\n")
        self._deliver(recipient, mail)


async def start_sink(deliver: Deliver, delay: float) -> asyncio.Server:
    """Listen on a free loopback port; `delay` in seconds before a mail is acknowledged."""
    return await asyncio.get_running_loop().create_server(lambda: SinkProtocol(deliver, delay), "127.0.0.1", 0)
