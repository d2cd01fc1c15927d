"""Sockets that listen at an address: ``HOST:PORT``, with a name at all of its addresses.

IPv6 sockets take no IPv4 clients, so ``0.0.0.0:25`` and ``[::]:25`` can both be named. Port 0 takes a free one. A port
that somebody else listens on is refused, also where it is to be shared among workers of ours (SO_REUSEPORT): to share
it with a stranger would be to share clients with him.
"""

import errno
import os
import socket

BACKLOG = 4_096
"""Clients that may wait to be accepted, as many as Linux allows (net.core.somaxconn). While a worker is started again,
or many come at once, a client who waits for a second is better off than one whose SYN is dropped: he tries again after
1, 3 and 7 seconds."""


def host_port(address: str) -> tuple[str, int]:
    """Of ``HOST:PORT``, where an IPv6 address stands in brackets."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def sockets_at(host: str, port: int, *, reuse_port: bool = False) -> list[socket.socket]:
    """A socket that listens for each address of `host`. Raises `OSError`."""
    sockets, trouble = list[socket.socket](), OSError(errno.EADDRNOTAVAIL, "")
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    for family, _, _, _, place in dict.fromkeys(found):
        try:
            if reuse_port and port:  # is it a stranger's? See above
                socket_at(family, place, reuse_port=False, listening=False).close()
            sockets.append(socket_at(family, place, reuse_port=reuse_port))
        except OSError as error:
            trouble = error
            if error.errno not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
                break
    else:
        if sockets:  # a name may have an IPv6 address that this machine has not
            return sockets
    for each in sockets:
        each.close()
    raise trouble


def socket_at(family: int, place: object, *, reuse_port: bool, listening: bool = True) -> socket.socket:
    """A socket that is bound, and listens unless told not to. Raises `OSError`."""
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.bind(place)  # type: ignore[arg-type]  # what getaddrinfo or getsockname gave
        if listening:
            bound.listen(BACKLOG)
    except OSError:
        bound.close()
        raise
    return bound


def name_of(listening: socket.socket) -> str:
    """HOST:PORT, [IPV6]:PORT or unix:/PATH."""
    if listening.family == socket.AF_UNIX:
        return f"unix:{listening.getsockname()}"
    host, port = listening.getsockname()[:2]
    return f"[{host}]:{port}" if listening.family == socket.AF_INET6 else f"{host}:{port}"


def reason_of(error: OSError) -> str:
    """What is wrong, in the system's words; a name that is not found has a number of its own kind."""
    if error.errno == errno.EACCES:
        return f"{os.strerror(error.errno)} (for ports below 1024: CAP_NET_BIND_SERVICE, or a socket of systemd)"
    return os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror or str(error)
