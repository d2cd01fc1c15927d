"""Where accepted mail goes: a server that speaks SMTP or LMTP, or a Maildir.

`open_next_hop` is the door; `contract` says what comes out of it, `address` which URLs go in.

::

    address    URL -> where, and whether by TLS           pure
    content    dot-stuffing, line ends, addresses         pure
    replies    the answers that we make ourselves         pure
    wire       one connection as octets                   I/O
    hello      connect, greeting, EHLO, STARTTLS, XCLIENT
    xclient    whom we speak for, as commands             pure
    watch      whether the server is there, for all sessions
    smtp       the SMTP and LMTP next hops
    maildir    the Maildir next hop                       I/O
"""

import re
from pathlib import Path

from reputation.errors import ConfigError
from smtp_frontend.next_hop.address import HopAddress
from smtp_frontend.next_hop.contract import NO_OPTIONS, Connection, MailOptions, NextHop, Part
from smtp_frontend.next_hop.hello import Peer, tls_context
from smtp_frontend.next_hop.maildir import MaildirNextHop
from smtp_frontend.next_hop.smtp import SmtpNextHop
from smtp_frontend.next_hop.watch import PAUSE_SECONDS, HopWatch
from smtp_frontend.next_hop.xclient import Introduction, Protocol

__all__ = [
    "NO_OPTIONS",
    "Connection",
    "Introduction",
    "MailOptions",
    "NextHop",
    "Part",
    "Protocol",
    "open_next_hop",
]

_EHLO_NAME = re.compile(r"[!-~]{1,255}")


def open_next_hop(url: str, *, hostname: str, timeout_seconds: float, pause_seconds: float = PAUSE_SECONDS) -> NextHop:
    """The next hop that `url` names. Does no I/O but reading the system's certificates, and that only for TLS.

    `hostname` is the name we give ourselves in EHLO; `timeout_seconds` bounds each answer, and `pause_seconds` is how
    long nobody tries to connect after a failure.
    Raises `ConfigError` for what cannot be right.
    """
    address = HopAddress.parse(url)
    if timeout_seconds <= 0:
        raise ConfigError(f"next hop: a time limit of {timeout_seconds} s leaves no time to answer")
    if not _EHLO_NAME.fullmatch(hostname):
        raise ConfigError(f'next hop: "{hostname}" is no host name to introduce ourselves with')
    if address.scheme == "maildir":
        return MaildirNextHop(Path(address.path))
    tls = tls_context(address.starttls)
    peer = Peer(url=url, address=address, hostname=hostname, timeout_seconds=timeout_seconds, tls=tls)
    return SmtpNextHop(peer, HopWatch(url, pause_seconds=pause_seconds))
