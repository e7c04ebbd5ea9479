"""A keep-alive HTTP/1.1 client of few instructions: just what the load driver needs."""

import asyncio


class Connection:
    """One connection to the broker, used for one request at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str) -> None:
        self._reader = reader
        self._writer = writer
        self._host = host

    @classmethod
    async def open(cls, host: str, port: int) -> "Connection":
        """Connect."""
        reader, writer = await asyncio.open_connection(host, port)
        return cls(reader, writer, f"{host}:{port}")

    async def get(self, path: str, **headers: str) -> tuple[int, bytes, bytes]:
        """Send a GET, with more headers, which have underscores for hyphens; gives status, head and body."""
        lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
        return await self._exchange(f"GET {path} HTTP/1.1\r\nHost: {self._host}\r\n{lines}\r\n".encode())

    async def post(self, path: str, form: str) -> tuple[int, bytes, bytes]:
        """Send a form; gives status, head and body."""
        head = (
            f"POST {path} HTTP/1.1\r\nHost: {self._host}\r\n"
            f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(form)}\r\n\r\n"
        )
        return await self._exchange((head + form).encode())

    async def _exchange(self, request: bytes) -> tuple[int, bytes, bytes]:
        self._writer.write(request)
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or b"0")
        body = await self._reader.readexactly(length) if length else b""
        return int(head[9:12]), head, body

    def close(self) -> None:
        """Disconnect."""
        self._writer.close()
