"""Which hosts a result may be fetched from: public ones, and private ones where that is allowed.

A result's URL is somebody else's word. It could name this machine, a neighbour in its network or
the metadata service of its cloud, and what they answer would end up in a file. Names prove nothing:
they can resolve to anything, and to something else a moment later. So the address is checked as the
socket to it is made, which is after resolution and before a byte is sent.
"""

from __future__ import annotations

import asyncio
import socket
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final, TypeAlias
from urllib.parse import urlsplit

Address: TypeAlias = IPv4Address | IPv6Address
AddressInfo: TypeAlias = tuple[int, int, int, str, tuple[str | int, ...]]
"""Family, kind, protocol, name and address, as `socket.getaddrinfo` gives them."""

_UNICAST: Final = IPv6Network("2000::/3")
"""All of IPv6 that is given to public hosts."""
_NAT64: Final = IPv6Network("64:ff9b::/96")
_SPECIAL: Final = (
    IPv4Network("192.0.0.0/24"),  # reserved for protocols; one cloud's metadata is here
    IPv4Network("168.63.129.16/32"),  # another cloud's: a public address that leads inside
)


class RefusedHostError(OSError):
    """A URL leads where results are not fetched from; the text says why."""


def is_public(address: str) -> bool:
    """Whether an address in its usual form belongs to a host of the public internet.

    False for loopback, private, link-local, shared, multicast, reserved and documentation
    addresses, for IPv6 addresses that stand for such an IPv4 address, and for any other text.
    """
    try:
        return _is_public(ip_address(address))
    except ValueError:
        return False


def _is_public(address: Address) -> bool:
    if isinstance(address, IPv4Address):
        is_special = any(address in network for network in _SPECIAL)
        return address.is_global and not address.is_multicast and not is_special
    inner = _embedded(address)
    if inner is not None:
        return _is_public(inner)
    return address in _UNICAST and address.is_global


def _embedded(address: IPv6Address) -> IPv4Address | None:
    """The IPv4 address that a packet to this one ends at."""
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped or address.sixtofour


class Guard:
    """Makes the sockets of a connector, none to a private host unless `allow_private`."""

    def __init__(self) -> None:
        self.allow_private = False

    def socket(self, to: AddressInfo) -> socket.socket:
        """A socket for one resolved address; raises `RefusedHostError`."""
        family, kind, protocol, _, address = to
        # "2130706433" gets here unresolved and is 127.0.0.1: what has no usual form is refused.
        if not self.allow_private and not is_public(str(address[0])):
            # The same words for every address, so that a host with several is seen as refused.
            raise RefusedHostError("its host is private, on this machine or in its network")
        return socket.socket(family, kind, protocol)


class PrivateHosts:
    """Whether results may lie on private hosts: as told, or as the API itself does.

    Told nothing (`None`), they may exactly if every address of the host in `api_url` is private:
    an emulator on this machine or a gateway in the own network keeps its results there as well.
    """

    def __init__(self, allowed: bool | None, api_url: str | None) -> None:  # noqa: FBT001  # `None` is the third value
        self._allowed = False if allowed is None and api_url is None else allowed
        self._api_url = api_url or ""

    async def are_allowed(self) -> bool:
        """The answer, looked up once; no while the API's host has no address."""
        if self._allowed is not None:
            return self._allowed
        try:
            host = urlsplit(self._api_url).hostname
            found = await asyncio.get_running_loop().getaddrinfo(host, None)
        except (OSError, ValueError):
            return False
        self._allowed = not any(is_public(str(address[0])) for *_, address in found)
        return self._allowed
