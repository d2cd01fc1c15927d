"""Headers of the PROXY protocol, as a load balancer would write them."""

from ipaddress import IPv4Address, IPv6Address

from smtp_frontend.proxy_header import crc32c

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
PROXY = 0x21
PORTS = (56_324).to_bytes(2) + (25).to_bytes(2)


def version_2(command: int, family: int, block: bytes) -> bytes:
    """A header with any command and family, and `block` behind its first 16 octets."""
    return SIGNATURE + bytes([command, family]) + len(block).to_bytes(2) + block


def tcp4(source: str, destination: str = "198.51.100.25", *, values: bytes = b"") -> bytes:
    """The header for a client with an IPv4 address."""
    addresses = IPv4Address(source).packed + IPv4Address(destination).packed
    return version_2(PROXY, 0x11, addresses + PORTS + values)


def tcp6(source: str, destination: str = "2001:db8::19", *, values: bytes = b"") -> bytes:
    """The header for a client with an IPv6 address."""
    addresses = IPv6Address(source).packed + IPv6Address(destination).packed
    return version_2(PROXY, 0x21, addresses + PORTS + values)


def value(kind: int, content: bytes) -> bytes:
    """One of the values behind the addresses."""
    return bytes([kind]) + len(content).to_bytes(2) + content


TLS = value(0x20, b"\x01" + bytes(4) + value(0x21, b"TLSv1.3"))
"""The client speaks TLS with the load balancer, and has shown no certificate."""
CHECKSUM = value(0x03, bytes(4))
"""Room for a checksum, which `checked` puts in."""


def checked(header: bytes) -> bytes:
    """The header with the checksum in the room for it."""
    before, room, after = header.partition(CHECKSUM)
    assert room, "there is room for the checksum"
    return before + room[:-4] + crc32c(header).to_bytes(4) + after
