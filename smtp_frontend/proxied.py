"""Reads the PROXY header of a load balancer off a socket, and not an octet more: what follows may be a TLS
handshake."""

import asyncio
import socket

from smtp_frontend.proxy_header import ProxyHeader, ProxyHeaderError, parse

HEADER_SECONDS = 5.0
SIGNATURE_V2 = b"\r\n\r\n\x00\r\nQUIT\n"
_FIXED_V2 = 16


async def read_header(connection: socket.socket) -> ProxyHeader:
    """The header, on a socket that does not block. Raises `ProxyHeaderError`, or OSError for a connection that is
    lost."""
    loop = asyncio.get_running_loop()
    octets = b""
    while (header := parse(octets)) is None:
        read = await loop.sock_recv(connection, _wanted(octets))
        if not read:
            raise ProxyHeaderError("the connection ends before it")
        octets += read
    return header


def _wanted(octets: bytes) -> int:
    """How many octets are the header's for sure."""
    if len(octets) < len(SIGNATURE_V2):
        return len(SIGNATURE_V2) - len(octets)
    if not octets.startswith(SIGNATURE_V2):
        return 1  # version 1 ends with its line
    if len(octets) < _FIXED_V2:
        return _FIXED_V2 - len(octets)
    return max(1, _FIXED_V2 + int.from_bytes(octets[14:16], "big") - len(octets))
