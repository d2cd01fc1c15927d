"""Reads the PROXY header of a load balancer off a socket, and not an octet more: what follows may be a TLS
handshake."""

import asyncio
import socket

from smtp_frontend.proxy_header import ProxyHeader, ProxyHeaderError, octets_wanted, parse

HEADER_SECONDS = 5.0


async def read_header(connection: socket.socket) -> ProxyHeader:
    """The header, on a socket that does not block. Raises `ProxyHeaderError`, or OSError for a connection that is
    lost."""
    loop = asyncio.get_running_loop()
    octets = b""
    while (header := parse(octets)) is None:
        read = await loop.sock_recv(connection, octets_wanted(octets))
        if not read:
            raise ProxyHeaderError("the connection ends before it")
        octets += read
    return header
