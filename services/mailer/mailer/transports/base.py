"""What a way to send mail has to offer."""

from typing import Protocol

from mailer.messages import Mail
from mailer.outcomes import Attempt


class Transport(Protocol):
    """Sends mails, several at the same time."""

    name: str

    async def send(self, mail: Mail) -> Attempt:
        """Try once to hand a mail over, within the transport's own bound of time. Never raises for what servers do."""

    async def check(self) -> str:
        """Connect and authenticate without sending; tells in a line what was found.

        Raises:
            TransportError: it does not work, and why.
        """

    async def aclose(self) -> None:
        """Close what is open."""
