"""From host names to addresses, by DNS alone: without threads, so that a hundred slow names do not wait in line."""

import asyncio
from ipaddress import ip_address

import dns.asyncresolver
import dns.exception
import dns.name
import dns.resolver

from auth_api.errors import HostError
from auth_api.public_addresses import IpAddress

# RFC 6761, 6762, 7686 and ICANN's .internal: DNS can know nothing of these, or nothing public.
_SPECIAL = frozenset({"example", "internal", "invalid", "local", "localhost", "onion", "test"})


class Names:
    """Asks the DNS servers that this machine is configured with. /etc/hosts is not read, `localhost` is known."""

    def __init__(self) -> None:
        self._resolver: dns.asyncresolver.Resolver | None = None

    async def addresses(self, host: str) -> list[IpAddress]:
        """Give all addresses of a host, at least one, IPv4 first: not every machine reaches IPv6.

        The caller bounds the time.

        Raises:
            HostError: there are none, or DNS does not tell.
        """
        if host == "localhost":
            return [ip_address("127.0.0.1"), ip_address("::1")]
        if host.rpartition(".")[2] in _SPECIAL:
            raise HostError("its name is not one of the public DNS")
        answers = await asyncio.gather(*(self._ask(host, type_) for type_ in ("A", "AAAA")), return_exceptions=True)
        found = [address for answer in answers if isinstance(answer, list) for address in answer]
        if not found:
            raise next((answer for answer in answers if isinstance(answer, BaseException)), HostError("no address"))
        return found

    async def _ask(self, host: str, record_type: str) -> list[IpAddress]:
        try:
            if self._resolver is None:
                self._resolver = dns.asyncresolver.Resolver()
            name = dns.name.from_text(host)
            answer = await self._resolver.resolve(name, record_type, raise_on_no_answer=False, search=False)
        except (dns.exception.DNSException, OSError) as error:
            raise HostError(f"its name can't be looked up ({type(error).__name__})") from error
        return [ip_address(record.address) for record in answer]
