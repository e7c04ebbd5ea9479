"""The launcher's development inbox alone, for a container: mail comes in on port 2525, the page is on port 3380."""

import socket
import sys

from portier_broker.inbox import running_inbox
from service_kit.logs import configure_logging
from service_kit.stopping import Stop, run

SMTP_PORT = 2525
WEB_PORT = 3380


def listen(port: int) -> socket.socket:
    """Listen on all of the container's addresses; what is published of them is compose.yaml's to say."""
    return socket.create_server(("0.0.0.0", port))  # noqa: S104 - a container's addresses are its own


async def serve(stop: Stop) -> None:
    """Take and show mails until asked to stop."""
    with listen(SMTP_PORT) as smtp, listen(WEB_PORT) as web:
        async with running_inbox(smtp=smtp, web=web):
            await stop.wait()


if __name__ == "__main__":
    configure_logging(service="mailcatcher", level="info", format="auto")
    sys.exit(run(serve))
