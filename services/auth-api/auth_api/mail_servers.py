"""Whether a domain can have mail: what DNS says of its mail servers (RFC 5321 section 5.1, RFC 7505)."""

import asyncio
import socket
from collections.abc import Sequence
from ipaddress import ip_address

import dns.asyncresolver
import dns.exception
import dns.name
import dns.resolver

from auth_api.discovery.cache import Answer, Question
from auth_api.errors import DiscoveryError
from auth_api.metrics import DOMAIN_PROBLEMS, DomainProblem
from auth_api.public_addresses import IpAddress, is_public

TIMEOUT = 5.0  # seconds for a query, and for all of a domain's
MOST_SERVERS = 5
GOOD_FRESH, BAD_FRESH = 3_600.0, 300.0  # seconds that a verdict is believed
FAILURE_FRESH = 5.0  # seconds: it refuses people, so it is asked again soon

_ROOT = dns.name.root


class MailServers:
    """Asks one DNS server by UDP, each question once."""

    def __init__(self, host: str, port: int, *, public_only: bool) -> None:
        self._host = host
        self._port = port
        self._public_only = public_only
        self._resolver: dns.asyncresolver.Resolver | None = None

    def question(self, domain: str) -> Question[DomainProblem | None]:
        """What to ask about a domain; the answer is the problem, None where there is none."""
        kind = "public" if self._public_only else "any"
        return Question(
            f"mail servers of {domain}, {kind}, by {self._host}:{self._port}",
            lambda: self._ask(domain),
            _read_verdict,
            TIMEOUT,
            failure_fresh=FAILURE_FRESH,
            failure_stale=0,
        )

    async def problem(self, domain: str) -> DomainProblem | None:
        """Tell what keeps mail from reaching a domain, None where nothing does.

        Raises:
            DiscoveryError: the DNS server does not tell.
        """
        try:
            name = dns.name.from_text(domain)
        except dns.exception.DNSException:
            return "invalid_name"
        names = await self._mail_exchangers(name)
        if names == [_ROOT]:
            return "null_mx"
        servers = [server for server in names if server != _ROOT]
        if servers and not self._public_only:
            return None
        addresses = await self._addresses((servers or [name])[:MOST_SERVERS])
        if not addresses:
            return "no_servers"
        return "no_public_ips" if self._public_only and not any(map(is_public, addresses)) else None

    async def _ask(self, domain: str) -> Answer:
        try:
            async with asyncio.timeout(TIMEOUT):
                problem = await self.problem(domain)
        except TimeoutError as error:
            raise DiscoveryError(f"DNS does not answer within {TIMEOUT:g} s") from error
        return Answer(problem or "", BAD_FRESH if problem else GOOD_FRESH)

    async def _mail_exchangers(self, name: dns.name.Name) -> list[dns.name.Name]:
        answer = await self._query(name, "MX")
        return [] if answer is None else [record.exchange for record in answer]

    async def _addresses(self, servers: Sequence[dns.name.Name]) -> list[IpAddress]:
        queries = [self._query(server, record_type) for server in servers for record_type in ("A", "AAAA")]
        answers = await asyncio.gather(*queries)
        return [ip_address(record.address) for answer in answers if answer is not None for record in answer]

    async def _query(self, name: dns.name.Name, record_type: str) -> dns.resolver.Answer | None:
        try:
            resolver = await self._opened()
            return await resolver.resolve(name, record_type, search=False)
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
            return None
        except (dns.exception.DNSException, OSError) as error:
            self._resolver = None  # the server's own name may lead elsewhere by now
            raise DiscoveryError(f"DNS does not tell ({type(error).__name__})") from error

    async def _opened(self) -> dns.asyncresolver.Resolver:
        if self._resolver is None:
            resolver = dns.asyncresolver.Resolver(configure=False)
            resolver.nameservers = await _addresses_of(self._host)
            resolver.port = self._port
            resolver.timeout = resolver.lifetime = TIMEOUT
            self._resolver = resolver
        return self._resolver


def _read_verdict(text: str) -> DomainProblem | None:
    """Read what `_ask` answers; '' says that there is no problem."""
    for problem in DOMAIN_PROBLEMS:
        if problem == text:
            return problem
    if text:
        raise DiscoveryError("what is kept of the domain's mail servers can't be read")
    return None


async def _addresses_of(host: str) -> Sequence[str]:
    """The DNS server itself may be named, as another container is."""
    found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_DGRAM)
    return [str(found[0][4][0])]
