"""Where a name leads, and whether we may go there: every address of a camera must lie in `camera_networks`."""

import ipaddress
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field

from recorder.base.errors import ConfigError, SourceError
from recorder.base.media import GapCause
from recorder.rtsp.names import Names, numeric

ADDRESSES_MAX = 8

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def parse_networks(blocks: Sequence[str]) -> tuple[Network, ...]:
    """The CIDR blocks as networks. Raises ConfigError naming the wrong one."""
    networks = []
    for block in blocks:
        try:
            networks.append(ipaddress.ip_network(block, strict=False))
        except ValueError as error:
            raise ConfigError(f"{block!r} is no CIDR block", where="recording.camera_networks", remedy='write e.g. "10.0.0.0/8"') from error
    return tuple(networks)


@dataclass(frozen=True, slots=True)
class AddressBook:
    """Resolves names off the loop and lets only allowed addresses through."""

    networks: tuple[Network, ...]
    names: Names = field(default_factory=Names, repr=False, compare=False)

    async def resolve(self, host: str, port: int) -> list[tuple[socket.AddressFamily, tuple[str, int]]]:
        """Every address of `host`, in the resolver's order.

        Raises SourceError: cause `offline` if the name does not resolve within 5 s, cause `refused` if any of its addresses lies
        outside the networks: a name that leads to both sides is not trusted at all.
        """
        found = numeric(host, port) or await self.names.ask(host, port)
        addresses = [(socket.AddressFamily(family), (str(where[0]), int(where[1]))) for family, _, _, _, where in found[:ADDRESSES_MAX]]
        for _, (address, _) in addresses:
            if not self.allows(address):
                raise SourceError(f"address {address} lies outside camera_networks", cause=GapCause.REFUSED, retry_s=60.0, where=host,
                                  remedy="add its network to recording.camera_networks if that is meant")
        return addresses

    def allows(self, address: str) -> bool:
        """True if the address lies in one of the networks; IPv4 inside IPv6 counts as IPv4."""
        try:
            ip = ipaddress.ip_address(address.partition("%")[0])
        except ValueError:
            return False
        inner = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
        return any((inner or ip) in network for network in self.networks)
