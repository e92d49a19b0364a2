from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from apixo_async import ApixoClient, DownloadError, InvalidSettingError, Task, TaskState
from apixo_async.downloads import Downloader
from apixo_async.downloads.hosts import PrivateHosts, RefusedHostError, is_public
from apixo_async.downloads.urls import InsecureRedirectError, read_redirect, read_url
from tests.faults import FaultServer, reply
from tests.filehost import VIDEO, NoJitter, files_in, in_turn, video

KEY = "apx_CANARY_7f3b29d1c85e4a60"
PUBLIC = "8.8.8.8"


@pytest.fixture
async def strict() -> AsyncIterator[Downloader]:
    """A downloader as it is without a setting."""
    loader = Downloader(rng=NoJitter())
    yield loader
    await loader.aclose()


@pytest.fixture
async def trusting() -> AsyncIterator[Downloader]:
    """A downloader that may fetch from this machine."""
    loader = Downloader(allow_private_hosts=True, rng=NoJitter())
    yield loader
    await loader.aclose()


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """The addresses of names; only these are resolved. Addresses stand for themselves."""
    table: dict[str, list[str]] = {}

    def resolve(host: str, port: int | None, *args: Any, **options: Any) -> list[Any]:  # noqa: ANN401 - as socket has it
        if host not in table:
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        families = [socket.AF_INET6 if ":" in it else socket.AF_INET for it in table[host]]
        return [
            (family, socket.SOCK_STREAM, 6, "", (address, port or 0))
            if family == socket.AF_INET
            else (family, socket.SOCK_STREAM, 6, "", (address, port or 0, 0, 0))
            for family, address in zip(families, table[host], strict=True)
        ]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    return table


@pytest.fixture
def ports(monkeypatch: pytest.MonkeyPatch) -> None:
    """All ports are usual, so that a server of a test can stand for a public one."""
    monkeypatch.setattr("apixo_async.downloads.urls.PORTS", range(65_536))


async def refused(loader: Downloader, url: str, directory: Path) -> DownloadError:
    """The error of a download that was not even begun."""
    with pytest.raises(DownloadError) as caught:
        await loader.save(url, directory, "job", overwrite=False)
    assert not files_in(directory)
    assert caught.value.reason == "refused_host"
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    return caught.value


# Addresses


@pytest.mark.parametrize(
    "address",
    [
        *["127.0.0.1", "127.8.8.8", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.1.1"],  # noqa: S104
        *["169.254.169.254", "100.100.100.200", "192.0.0.192", "168.63.129.16"],
        *["224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255", "198.18.0.1", "192.0.2.1"],
        *["::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "fec0::1"],
        *["ff02::1", "2001:db8::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1"],
        *["64:ff9b::7f00:1", "64:ff9b::169.254.169.254", "64:ff9b:1::1", "2002:7f00:1::"],
        *["2001:0:4136:e378:8000:63bf:3fff:fdd2", "4000::1"],
        *["2130706433", "0x7f.1", "127.1", "0177.0.0.1", "localhost", "", "8.8.8.8 "],
    ],
)
def test_an_address_that_is_not_public(address: str) -> None:
    """Nor is an IPv6 address that stands for such a one, or an address in an unusual form."""
    assert not is_public(address)


@pytest.mark.parametrize(
    "address",
    [PUBLIC, "1.1.1.1", "100.63.0.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8"],
)
def test_an_address_that_is_public(address: str) -> None:
    """Hosts of the public internet, also by way of a gateway between IPv6 and IPv4."""
    assert is_public(address)


@given(st.ip_addresses(v=4))
def test_an_address_is_judged_alike_in_all_its_forms(address: IPv4Address) -> None:
    """What IPv6 wraps up is judged as what it is."""
    number = int(address)
    forms = [0xFFFF << 32 | number, 0x64_FF9B << 96 | number, 0x2002 << 112 | number << 80]

    assert {is_public(str(IPv6Address(form))) for form in forms} == {is_public(str(address))}


# Connections


@pytest.mark.parametrize(
    "host",
    [
        *["127.0.0.1", "0.0.0.0", "127.8.8.8", "[::1]", "[::]"],  # noqa: S104 - asked for
        *["[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]"],
        *["localhost", "LOCALHOST"],
    ],
)
async def test_a_private_host_is_not_connected_to(
    host: str, strict: Downloader, tmp_path: Path, ports: None
) -> None:
    """Whatever it calls itself: no connection, one attempt, and the advice in the error."""
    async with FaultServer(in_turn(video())) as server:
        error = await refused(strict, f"http://{host}:{server.port}/v.mp4?secret", tmp_path)

        assert server.connections == 0
    assert "private" in str(error)
    assert "allow_private_hosts=True" in str(error)
    assert "secret" not in str(error)


@pytest.mark.parametrize(
    "host",
    [
        *["2130706433", "127.1", "0177.0.0.1", "0x7f000001", "0x7f.1", "0", "127.0.0.1."],
        # As some would read them: percent signs, digits in circles, wide digits, wide stops.
        *["%31%32%37.0.0.1", "\u2460\u2461\u2466.\u24ea.\u24ea.\u2460"],
        *["\uff11\uff12\uff17.0.0.1", "127\u30020\u30020\u30021"],
    ],
)
async def test_a_number_for_a_host_is_not_connected_to(
    host: str, strict: Downloader, tmp_path: Path, ports: None
) -> None:
    """The system would take it for 127.0.0.1; whichever check comes first, it gets no further."""
    async with FaultServer(in_turn(video())) as server:
        with pytest.raises(DownloadError) as caught:
            await strict.save(f"http://{host}:{server.port}/", tmp_path, "job", overwrite=False)

        assert server.connections == 0
    assert caught.value.reason in {"bad_url", "refused_host"}


@pytest.mark.parametrize(
    "name", ["cdn.example", "cdn.example.", "localhost.", "localhost.localdomain", "metadata"]
)
async def test_a_name_with_a_private_address_is_not_connected_to(
    name: str, strict: Downloader, tmp_path: Path, names: dict[str, list[str]], ports: None
) -> None:
    """A name may have any address, or several, with or without a dot at its end."""
    names[name] = names[name.removesuffix(".")] = ["127.0.0.1", "::1", "127.0.0.2"]
    async with FaultServer(in_turn(video())) as server:
        await refused(strict, f"http://{name}:{server.port}/v.mp4", tmp_path)

        assert server.connections == 0


async def test_a_name_that_changes_its_address(
    strict: Downloader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ports: None
) -> None:
    """Every lookup may say something else; what is connected to is what was checked."""
    lookups = 0

    def rebind(host: str, port: int | None, *args: Any, **options: Any) -> list[Any]:  # noqa: ANN401 - as socket has it
        nonlocal lookups
        lookups += 1
        address = PUBLIC if lookups == 1 else "127.0.0.1"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port or 0))]

    monkeypatch.setattr(socket, "getaddrinfo", rebind)
    async with FaultServer(in_turn(video())) as server:
        loop = asyncio.get_running_loop()
        connect = loop.sock_connect

        async def watched(sock: socket.socket, address: Any) -> None:  # noqa: ANN401 - as asyncio has it
            if address[0] == PUBLIC:
                raise OSError(101, "Network is unreachable")
            await connect(sock, address)

        monkeypatch.setattr(loop, "sock_connect", watched)
        monkeypatch.setattr("aiohttp.connector._DNSCacheTable.expired", lambda *_: True)
        await refused(strict, f"http://cdn.example:{server.port}/v.mp4", tmp_path)

        assert server.connections == 0
    assert lookups == 2


async def test_a_redirect_to_a_private_host_is_not_followed(
    strict: Downloader,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    ports: None,
) -> None:
    """Each hop is checked as the first URL is."""
    # Here the first address counts as public and the second does not; TLS has tests of its own.
    judge = {"127.0.0.1": True, "127.0.0.2": False}
    monkeypatch.setattr("apixo_async.downloads.hosts.is_public", judge.__getitem__)
    monkeypatch.setattr(
        "apixo_async.downloads.fetching.read_redirect", lambda _, place, **__: URL(place)
    )
    async with FaultServer(in_turn(video())) as inner:
        place = f"http://127.0.0.2:{inner.port}/latest/meta-data"
        answer = reply(status="302 Found", headers=[f"Location: {place}"])
        async with FaultServer(in_turn(answer)) as server:
            await refused(strict, server.url, tmp_path)

            assert len(server.seen) == 1
        assert inner.connections == 0


async def test_redirects_are_followed_with_their_relative_places(
    trusting: Downloader, tmp_path: Path
) -> None:
    """Three are, each from where the last one led."""
    places = ["b/c?x=1", "../d", "//127.0.0.1:{}/e"]
    answers = [("302 Found", places[0]), ("307 Again", places[1]), ("308 For good", places[2])]
    async with FaultServer(in_turn(b"")) as server:
        server._act = in_turn(
            *[
                reply(status=status, headers=[f"Location: {place.format(server.port)}"])
                for status, place in answers
            ],
            video(),
        )
        await trusting.save(f"{server.url}/a/", tmp_path, "job", overwrite=False)

        assert [seen.target for seen in server.seen] == ["/a/", "/a/b/c?x=1", "/a/d", "/e"]
    assert files_in(tmp_path) == {"job.mp4": VIDEO}


async def test_a_redirect_without_a_place(trusting: Downloader, tmp_path: Path) -> None:
    """It is an answer like any other that is no file."""
    async with FaultServer(in_turn(reply(status="302 Found"))) as server:
        with pytest.raises(DownloadError) as caught:
            await trusting.save(server.url, tmp_path, "job", overwrite=False)

        assert len(server.seen) == 1
    assert (caught.value.reason, caught.value.http_status) == ("refused", 302)


@pytest.mark.parametrize(
    "query", ["sig=a%2Fb%3D&c=%7E", "sig=a/b=&c=~", "x=%e4%b8%ad&y=a+b%20c", "a=1;b=[2]&'c'"]
)
async def test_a_signed_url_is_asked_for_as_it_stands(
    query: str, trusting: Downloader, tmp_path: Path
) -> None:
    """Quoting it anew, however rightly, could break its signature; in a redirect as well."""
    answers = [reply(status="302 Found", headers=[f"Location: /%41?{query}"]), video()]
    async with FaultServer(in_turn(*answers)) as server:
        await trusting.save(f"{server.url}/%7e?{query}", tmp_path, "job", overwrite=False)

        assert [seen.target for seen in server.seen] == [f"/%7e?{query}", f"/%41?{query}"]


# URLs


@pytest.mark.parametrize(
    "url",
    [
        *[
            "https://me@cdn.example/v",
            "https://me:pass@cdn.example/v",
            "https://:pass@cdn.example/v",
        ],
        *["https://cdn.example:22/v", "http://cdn.example:6379/v", "https://cdn.example:8081/v"],
    ],
)
def test_a_password_or_an_unusual_port_is_refused(url: str) -> None:
    """Unless private hosts are allowed, among which anything can be."""
    with pytest.raises(RefusedHostError):
        read_url(url, allow_private=False)

    assert str(read_url(url, allow_private=True)) == url


@pytest.mark.parametrize("port", ["", ":80", ":443", ":8080", ":8443"])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_usual_port(scheme: str, port: str) -> None:
    """Ports that files are served from."""
    url = f"{scheme}://cdn.example{port}/v"

    assert read_url(url, allow_private=False) == URL(url)


@pytest.mark.parametrize(
    ("start", "place", "allow_private", "is_followed"),
    [
        ("https://a.example/", "https://b.example/", False, True),
        ("https://a.example/", "/b", False, True),
        ("https://a.example/", "http://a.example/", False, False),
        ("https://a.example/", "http://a.example/", True, False),
        ("http://a.example/", "https://a.example/", False, True),
        ("http://a.example/", "/b", False, False),
        ("http://a.example/", "/b", True, True),
    ],
)
def test_a_redirect_keeps_to_tls(
    start: str, place: str, allow_private: bool, is_followed: bool
) -> None:
    """Never away from it; without it from the start only where private hosts are allowed."""
    if is_followed:
        read_redirect(URL(start), place, allow_private=allow_private)
    else:
        with pytest.raises(InsecureRedirectError):
            read_redirect(URL(start), place, allow_private=allow_private)


@pytest.mark.parametrize("place", ["https://b.example:22/", "https://me@b.example/"])
def test_a_redirect_is_held_to_the_rules_of_urls(place: str) -> None:
    """A host cannot lead where the API could not."""
    with pytest.raises(RefusedHostError):
        read_redirect(URL("https://a.example/"), place, allow_private=False)


# Who allows it


@pytest.mark.parametrize(
    ("base_url", "setting", "is_allowed"),
    [
        ("http://127.0.0.1:9", None, True),
        ("http://[::1]:9", None, True),
        ("https://gateway.corp.example", None, True),
        ("https://api.example", None, False),
        ("https://both.example", None, False),
        ("https://unknown.example", None, False),
        ("http://127.0.0.1:9", False, False),
        ("https://api.example", True, True),
    ],
)
async def test_private_hosts_are_allowed_if_the_api_is_one(
    base_url: str,
    setting: bool | None,
    is_allowed: bool,
    tmp_path: Path,
    names: dict[str, list[str]],
) -> None:
    """Without a setting the results may be where the API is, by all its addresses."""
    names.update({"gateway.corp.example": ["10.1.2.3", "fd00::3"], "api.example": [PUBLIC]})
    names.update({"both.example": [PUBLIC, "10.1.2.3"], "127.0.0.1": ["127.0.0.1"], "::1": ["::1"]})
    async with (
        FaultServer(in_turn(video())) as server,
        ApixoClient(KEY, base_url=base_url, allow_private_hosts=setting) as client,
    ):
        task = Task(id="t-1", model="veo-3-1", state=TaskState.SUCCESS, urls=(server.url,))
        if is_allowed:
            await client.download(task, tmp_path)
        else:
            with pytest.raises(DownloadError) as caught:
                await client.download(task, tmp_path)
            assert caught.value.reason == "refused_host"

        assert server.connections == is_allowed


async def test_the_host_of_the_api_is_looked_up_once(
    names: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer is kept, a failed lookup is not: the network may come back."""
    hosts = PrivateHosts(None, "https://gateway.example/api/v1")
    assert not await hosts.are_allowed()

    names["gateway.example"] = ["10.0.0.1"]
    assert await hosts.are_allowed()

    names["gateway.example"] = [PUBLIC]
    assert await hosts.are_allowed()


def test_a_setting_that_is_none() -> None:
    """It is refused before it can be taken for a yes."""
    wrong: Any = "no"
    with pytest.raises(InvalidSettingError, match="allow_private_hosts must be a bool"):
        ApixoClient(KEY, allow_private_hosts=wrong)
