"""XCLIENT: whom we speak for, said to a next hop that trusts us (https://www.postfix.org/XCLIENT_README.html). Pure.

    EHLO mx.example.net                -> 250-XCLIENT NAME ADDR PORT PROTO HELO LOGIN
    XCLIENT ADDR=192.0.2.7 LOGIN=...   -> 220, and the session begins anew as that client's
    EHLO client.example.com            -> 250-...

Of what we can say, a server is told what it lists, and each time all of it: what we do not know is ``[UNAVAILABLE]``. A
server keeps what is not mentioned, and that is what it knows of us. Values are xtext (RFC 3461 section 4). What is no
host name is unavailable, too: the client, or his DNS, could say something that a server refuses, and wait for ever.

Does not do: XFORWARD; PORT (always ``[UNAVAILABLE]``), DESTADDR and DESTPORT.

Bugs: a login that alone is longer than a line is sent as a longer line.

>>> from ipaddress import ip_address
>>> introduction = Introduction(address=ip_address("2001:db8::7"), helo="client.example.com", user="al+ice")
>>> commands(introduction, "NAME ADDR LOGIN")
[b'XCLIENT ADDR=IPV6:2001:db8::7 LOGIN=al+2Bice NAME=[UNAVAILABLE]']
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from reputation.events import ClientAddress

MAX_LINE_OCTETS = 512
"""Of a command, with its CRLF: RFC 5321 section 4.5.3.1.4."""
UNAVAILABLE = "[UNAVAILABLE]"

_VERB, _CRLF = "XCLIENT", "\r\n"
_HELLO = re.compile(r"[!-~]{1,255}")
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST = re.compile(rf"(?=.{{1,253}}\Z)(?:{_LABEL}\.)+(?=[A-Za-z]){_LABEL}")
_PLAIN = frozenset(range(33, 127)) - frozenset(b"+=")


class Protocol(StrEnum):
    """How the client has greeted us."""

    SMTP = "SMTP"
    ESMTP = "ESMTP"


@dataclass(frozen=True, slots=True, kw_only=True)
class Introduction:
    """Whom we speak for. Two that are equal are the same to a next hop."""

    address: ClientAddress | None
    """None where nobody knows it, as with a proxy that could not tell."""
    helo: str = ""
    user: str = ""
    """Who has logged in with us. Never what somebody only says of himself: the next hop may let users relay."""
    name: str = ""
    """The confirmed reverse name, as far as it is known."""
    protocol: Protocol = Protocol.ESMTP

    @property
    def hello(self) -> str:
        """The name in the client's HELO, where it can be said again; or nothing."""
        return self.helo if _HELLO.fullmatch(self.helo) else ""


def commands(introduction: Introduction, listed: str) -> list[bytes]:
    """The commands, without CRLF, that tell a server what it lists; none where it lists nothing that we know of.

    What does not fit into one line goes ahead of the address and the login, which stand together in the last one: with
    the address Postfix gives us the rights of whom it names, takes no further XCLIENT, and forgets a login of before.
    """
    wanted = frozenset(listed.upper().split())
    words = [f" {name}={_xtext(text)}" for name, text in _values(introduction).items() if name in wanted]
    lines: list[str] = []
    for word in words:
        if not lines or len(lines[0]) + len(word) + len(_CRLF) > MAX_LINE_OCTETS:
            lines.insert(0, _VERB)
        lines[0] += word
    return [line.encode("ascii") for line in lines]


def _values(introduction: Introduction) -> Mapping[str, str]:
    """All that can be said. The address and the login come first."""
    address = introduction.address
    bare = str(address).partition("%")[0]  # a zone means something on this machine only
    name = introduction.name if _HOST.fullmatch(introduction.name) else UNAVAILABLE
    return {
        "ADDR": UNAVAILABLE if address is None else f"IPV6:{bare}" if address.version == 6 else bare,
        "LOGIN": introduction.user or UNAVAILABLE,
        "NAME": name,
        "REVERSE_NAME": name,
        "PORT": UNAVAILABLE,
        "PROTO": introduction.protocol.value,
        "HELO": introduction.hello or UNAVAILABLE,
    }


def _xtext(text: str) -> str:
    """RFC 3461 section 4: all but printable ASCII, "+" and "=" are written in hexadecimal."""
    return "".join(chr(octet) if octet in _PLAIN else f"+{octet:02X}" for octet in text.encode())
