"""ip: addresses and networks by value, IPv4 and IPv6 in one space of 128 bits."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

from pipeline.kql.nodes import Operator
from pipeline.kql.values.base import Operand, Predicate, ValueRefused, ValueType, ordered

_MAPPED = 0xFFFF << 32
"""IPv4 addresses live at ::ffff:0:0/96, as in Lucene's InetAddressPoint."""

_LONGEST = 45  # ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255


@dataclass(frozen=True, slots=True)
class IpType(ValueType):
    name: str = "ip"
    pattern_hint = "write a network, as 10.0.0.0/8"

    def index(self, raw: Any) -> int | None:
        address = _address(raw)
        if address is None:
            return None
        return int(address) + (_MAPPED if address.version == 4 else 0)

    def term(self, raw: Any) -> str | None:
        """The canonical text; an IPv4-mapped IPv6 address is the IPv4 address."""
        address = _address(raw)
        return None if address is None else str(address)

    def equals(self, operand: Operand) -> Predicate:
        if "/" in operand.text:
            return self._within(operand.text)
        wanted = self._bound(operand.text)
        return lambda value: bool(value == wanted)

    def compares(self, operator: Operator, operand: Operand) -> Predicate:
        return ordered(operator, self._bound(operand.text))

    def _bound(self, text: str) -> int:
        value = self.index(text)
        if value is None:
            raise ValueRefused(f"`{text}` is not an IP address")
        return value

    def _within(self, text: str) -> Predicate:
        head, _, digits = text.partition("/")
        address = self._bound(head)
        width = 128 if ":" in head else 32
        if not (
            digits.isascii() and digits.isdigit() and len(digits) <= 3 and int(digits) <= width
        ):
            raise ValueRefused(
                f"`{text}` is not a network", "write it as 10.0.0.0/8 or 2001:db8::/32"
            )
        shift = width - int(digits)
        network = address >> shift
        return lambda value: bool(value >> shift == network)


def _address(raw: Any) -> IPv4Address | IPv6Address | None:
    if not isinstance(raw, str) or len(raw) > _LONGEST or "%" in raw:
        return None
    try:
        address = ip_address(raw)
    except ValueError:
        return None
    if isinstance(address, IPv6Address):
        return address.ipv4_mapped or address
    return address
