"""Fetching what strangers name: never anything but the public internet, never more than a bound."""

from __future__ import annotations

import asyncio
import gzip
from typing import TYPE_CHECKING

import pytest

from auth_api.discovery.safe_http import MAX_BODY, Document, SafeHttp, check_url
from auth_api.errors import DiscoveryError, HostError, StatusError

if TYPE_CHECKING:
    from tests.conftest import Internet

HOST = "login.mail.example"
URL = f"https://{HOST}/document"
PUBLIC = "93.184.216.34"

HOSTILE_URLS = [
    "http://login.mail.example/",
    "HTTPS://login.mail.example/",
    "ftp://login.mail.example/",
    "file:///etc/passwd",
    "gopher://login.mail.example:6379/_FLUSHALL",
    "data:application/json,{}",
    "javascript:alert(1)",
    "//login.mail.example/",
    "https:/login.mail.example/",
    "https:login.mail.example",
    "https:///login.mail.example/",
    "https://",
    "https:// login.mail.example/",
    "https://login.mail.example\\@169.254.169.254/",
    "https://user@login.mail.example/",
    "https://user:password@login.mail.example/",
    "https://login.mail.example@127.0.0.1/",
    "https://127.0.0.1/",
    "https://127.1/",
    "https://0/",
    "https://0x7f000001/",
    "https://0x7f.1/",
    "https://0177.0.0.1/",
    "https://2130706433/",
    "https://127.0.0.1.:443/",
    "https://①②⑦.⓪.⓪.①/",
    "https://169.254.169.254/latest/meta-data/",
    "https://10.0.0.1/",
    "https://8.8.8.8/",
    "https://[::1]/",
    "https://[::ffff:127.0.0.1]/",
    "https://[::ffff:7f00:1]/",
    "https://[0:0:0:0:0:ffff:a9fe:a9fe]/",
    "https://[64:ff9b::7f00:1]/",
    "https://[fe80::1%25eth0]/",
    "https://[2606:4700:4700::1111]/",
    "https://localhost/",
    "https://LOCALHOST/",
    "https://intranet/",
    "https://redis:6379/",
    "https://login.mail.example:22/",
    "https://login.mail.example:25/",
    "https://login.mail.example:80/",
    "https://login.mail.example:443/",
    "https://login.mail.example:0/",
    "https://login.mail.example:65536/",
    "https://login.mail.example:-1/",
    "https://login.mail.example:8443:80/",
    "https://login.mail.example/#fragment",
    "https://login.mail.example/a b",
    "https://login.mail.example/a\r\nHost: evil.example",
    "https://login.mail.example/%zz",
    "https://login%2email.example/",
    "https://login.mail.example%00.evil.example/",
    "https://lögin.mail.example/",
    "https://xn--a.mail.example/",
    "https://login..mail.example/",
    f"https://{'a' * 64}.example/",
    "https://login.mail.example/" + "a" * 3000,
    "",
]

PRIVATE_ADDRESSES = [
    "0.0.0.0",
    "10.0.0.1",
    "100.64.0.1",
    "100.100.100.200",
    "127.0.0.1",
    "127.255.255.254",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.1",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:8.8.8.8",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::808:808",
    "100::1",
    "2001::1",
    "2001:db8::1",
    "2002:7f00:1::1",
    "2002:808:808::1",
    "3fff::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
]


async def get(internet: Internet, url: str = URL, *, within: float = 20) -> Document:
    async with internet.http() as http:
        return await http.get(url, within=within)


async def test_document_is_fetched_with_the_lifetime_that_its_server_gives(internet: Internet) -> None:
    internet.serve(HOST, "/document", {"a": "é"}, headers={"Cache-Control": 'public, MAX-AGE="7200"'})
    document = await get(internet)
    assert document.json_object() == {"a": "é"}
    assert document.max_age == 7200
    headers = internet.headers[0]
    assert headers["host"] == HOST
    assert headers["user-agent"].startswith("portier.io/")
    assert internet.network.connected == [(PUBLIC, 443)]


@pytest.mark.parametrize("header", ["no-store", "max-age=-1", "max-age=abc", "max-age", "max-age=99999999999999", ""])
async def test_lifetime_that_cannot_be_read_is_none(internet: Internet, header: str) -> None:
    internet.serve(HOST, "/document", {}, headers={"Cache-Control": header})
    assert (await get(internet)).max_age is None


@pytest.mark.parametrize("url", HOSTILE_URLS)
async def test_hostile_url_is_refused_before_anything_is_looked_up(internet: Internet, url: str) -> None:
    with pytest.raises(DiscoveryError):
        await get(internet, url)
    assert (internet.names.asked, internet.network.connected) == ([], [])


@pytest.mark.parametrize("location", ["http://[", "//[::1", "https://]/", "//a\u2100b.example", "\xff"])
async def test_redirect_to_what_is_no_url_is_refused(internet: Internet, location: str) -> None:
    headers = {"Location": location.encode().decode("latin-1")}
    internet.serve(HOST, "/document", {}, status=302, headers=headers)
    with pytest.raises(DiscoveryError):
        await get(internet)


@pytest.mark.parametrize("url", HOSTILE_URLS)
async def test_redirect_to_a_hostile_url_is_not_followed(internet: Internet, url: str) -> None:
    location = "".join(character for character in url if character not in "\r\n").encode().decode("latin-1")
    if not location or ":" not in location:
        location = "file:///etc/passwd"
    internet.serve(HOST, "/document", {}, status=302, headers={"Location": location})
    with pytest.raises(DiscoveryError):
        await get(internet)
    # A path is within the host that was asked already; anything else is asked nowhere.
    assert set(internet.names.asked) == {HOST}
    assert all(connected == (PUBLIC, 443) for connected in internet.network.connected)


@pytest.mark.parametrize("address", PRIVATE_ADDRESSES)
@pytest.mark.parametrize("beside", [[], [PUBLIC]], ids=["alone", "beside-public"])
async def test_name_that_leads_to_a_private_address_is_never_connected_to(
    internet: Internet, address: str, beside: list[str]
) -> None:
    internet.names.hosts[HOST] = [[*beside, address]]
    with pytest.raises(DiscoveryError, match="not public"):
        await get(internet)
    assert internet.network.connected == []


@pytest.mark.parametrize("address", ["64:ff9b::5db8:d822", "2606:2800:220:1:248:1893:25c8:1946", "1.1.1.1"])
async def test_name_that_leads_to_a_public_address_is_asked(internet: Internet, address: str) -> None:
    internet.names.hosts[HOST] = [[address]]
    internet.serve(HOST, "/document", {})
    await get(internet)
    assert internet.network.connected == [(address, 443)]


async def test_name_that_changes_after_the_check_is_connected_to_as_it_was_checked(internet: Internet) -> None:
    internet.names.hosts[HOST] = [[PUBLIC], ["127.0.0.1"]]
    internet.serve(HOST, "/document", {})
    await get(internet)
    assert internet.names.asked == [HOST]
    assert internet.network.connected == [(PUBLIC, 443)]


async def test_name_that_turns_private_between_redirects_is_refused(internet: Internet) -> None:
    other = "other.mail.example"
    internet.names.hosts[other] = [["10.0.0.1"]]
    internet.serve(HOST, "/document", {}, status=302, headers={"Location": f"https://{other}/"})
    with pytest.raises(DiscoveryError, match="not public"):
        await get(internet)
    assert internet.network.connected == [(PUBLIC, 443)]


async def test_second_address_is_tried_when_the_first_refuses(internet: Internet) -> None:
    internet.names.hosts[HOST] = [["1.1.1.1", PUBLIC]]
    internet.network.refused.add("1.1.1.1")
    internet.serve(HOST, "/document", {})
    await get(internet)
    assert internet.network.connected == [("1.1.1.1", 443), (PUBLIC, 443)]


async def test_host_that_refuses_everywhere_or_is_unknown_is_told_as_host_error(internet: Internet) -> None:
    internet.network.refused.add(PUBLIC)
    with pytest.raises(HostError):
        await get(internet)
    internet.names.hosts[HOST] = [[]]
    with pytest.raises(HostError):
        await get(internet)


async def test_certificate_for_another_name_is_refused(internet: Internet) -> None:
    internet.serve("other.example", "/", {})
    with pytest.raises(HostError):
        await get(internet, "https://other.example/")
    assert internet.requests == []


async def test_certificate_of_an_unknown_authority_is_refused(internet: Internet) -> None:
    async with SafeHttp(names=internet.names, network=internet.network) as http:
        with pytest.raises(HostError):
            await http.get(URL, within=20)


async def test_three_redirects_are_followed_and_a_fourth_is_not(internet: Internet) -> None:
    for i in range(3):
        internet.serve(HOST, f"/{i}", {}, status=307, headers={"Location": f"/{i + 1}"})
    internet.serve(HOST, "/3", {"at": "the end"})
    assert (await get(internet, f"https://{HOST}/0")).json_object() == {"at": "the end"}
    internet.serve(HOST, "/3", {}, status=301, headers={"Location": f"https://{HOST}/0"})
    with pytest.raises(DiscoveryError, match="redirects more than 3 times"):
        await get(internet, f"https://{HOST}/0")


@pytest.mark.parametrize("status", [204, 304, 400, 403, 404, 410, 500, 503])
async def test_status_other_than_success_is_told(internet: Internet, status: int) -> None:
    internet.serve(HOST, "/document", b"", status=status)
    if status == 204:
        assert (await get(internet)).text == ""
        return
    with pytest.raises(StatusError) as told:
        await get(internet)
    assert told.value.status == status


async def test_body_over_the_bound_is_not_read_to_its_end(internet: Internet) -> None:
    internet.serve(HOST, "/document", b" " * 3_000_000)
    with pytest.raises(DiscoveryError, match="longer than"):
        await get(internet)
    internet.serve(HOST, "/document", b" " * MAX_BODY)
    assert len((await get(internet)).text) == MAX_BODY


async def test_compressed_body_is_read_up_to_the_same_bound(internet: Internet) -> None:
    gzipped = {"Content-Encoding": "gzip"}
    internet.serve(HOST, "/document", gzip.compress(bytes(MAX_BODY)), headers=gzipped)
    assert len((await get(internet)).text) == MAX_BODY
    internet.serve(HOST, "/document", gzip.compress(bytes(200_000_000)), headers=gzipped)
    with pytest.raises(DiscoveryError, match="longer than"):
        await get(internet)


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", b"{}"),
        ("gzip", gzip.compress(bytes(1000), mtime=0)[:-5]),
        ("gzip, gzip", gzip.compress(bytes(10), mtime=0)),
        ("br", b"{}"),
        ("deflate", b"{}"),
    ],
)
async def test_content_encoding_that_is_wrong_or_was_not_offered_is_refused(
    internet: Internet, encoding: str, body: bytes
) -> None:
    internet.serve(HOST, "/document", body, headers={"Content-Encoding": encoding})
    with pytest.raises(DiscoveryError):
        await get(internet)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'"text"', b"\xff", b"[" * 100_000, b"<html>", b"NaN"])
async def test_body_that_is_no_json_object_is_refused(internet: Internet, body: bytes) -> None:
    internet.serve(HOST, "/document", body)
    with pytest.raises(DiscoveryError):
        (await get(internet)).json_object()


async def test_server_that_never_answers_is_given_up(internet: Internet) -> None:
    internet.serve(HOST, "/document", {}).hold = asyncio.Event()
    with pytest.raises(HostError, match="no answer within"):
        await get(internet, within=0.2)
    assert internet.asked(HOST) == 1


async def test_server_that_drips_its_document_is_given_up_in_the_same_time(internet: Internet) -> None:
    internet.serve(HOST, "/document", {}, drips=True)
    with pytest.raises(HostError, match="no answer within"):
        await get(internet, within=1)
    assert internet.asked(HOST) == 1


async def test_http_is_for_this_machine_in_development_alone() -> None:
    check_url("http://localhost:8000/keys", development=True)
    check_url("http://127.0.0.1:8000/keys", development=True)
    for url in ("http://localhost:8000/", "http://login.mail.example/", "http://127.0.0.2:8000/"):
        with pytest.raises(DiscoveryError):
            check_url(url, development=url != "http://localhost:8000/")


async def test_proxies_of_the_environment_are_not_used(internet: Internet, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    internet.serve(HOST, "/document", {})
    await get(internet)
    assert internet.asked(HOST) == 1
