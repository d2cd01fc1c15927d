"""One question of a mail server: the attributes of https://www.postfix.org/SMTPD_POLICY_README.html, with their types.

All attributes up to Postfix 3.10 have a name here; others are kept, and nobody looks at them. An attribute that was
not sent is empty, and a number that is none is 0: what an older Postfix does not know must not make it a bad client.

Octets that are no UTF-8 stay as lone surrogates, as everywhere in events.

Does not do: reading from a connection (`protocol`), deciding what it means (`visits`, `due`). No I/O.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from ipaddress import ip_address
from typing import NamedTuple, Self, overload

from reputation.events import ClientAddress

CACHED_CLIENTS = 4_096
MAX_DIGITS = 18
_INSTANCE = re.compile(r"([0-9a-f]{1,16})\.[0-9a-f]{1,16}\.[0-9a-f]{1,16}\.([0-9a-f]{1,16})")


class State(StrEnum):
    """When Postfix asks. BDAT (RFC 3030) is told as DATA."""

    CONNECT = "CONNECT"
    EHLO = "EHLO"
    HELO = "HELO"
    MAIL = "MAIL"
    RCPT = "RCPT"
    DATA = "DATA"
    END_OF_MESSAGE = "END-OF-MESSAGE"
    VRFY = "VRFY"
    ETRN = "ETRN"


_STATES: Mapping[str, State] = {state.value: state for state in State}

IN_TRANSACTION = frozenset({State.MAIL, State.RCPT, State.DATA, State.END_OF_MESSAGE})
AFTER_RECIPIENTS = frozenset({State.DATA, State.END_OF_MESSAGE})
"""Asked once for a whole message."""


class Instance(NamedTuple):
    """What Postfix' `instance` says: which process asks, and about which transaction of the session.

    It is PID.SECONDS.MICROSECONDS.NUMBER, all hexadecimal, with the time of MAIL; the number begins at 0 in each
    session. Postfix does not promise that, so whatever else it is, it names a transaction and nothing more.

    >>> Instance.parse("1f2e.66f1a0b3.3d09.a")
    Instance(process='1f2e', number=10)
    """

    process: str
    number: int

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """The parts, or None where it is something else."""
        match = _INSTANCE.fullmatch(text)
        return None if match is None else cls(match[1], int(match[2], 16))


class _Text:
    """An attribute as it was sent; empty when it was not."""

    __slots__ = ("_name",)

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, request: None, owner: type) -> Self: ...
    @overload
    def __get__(self, request: "Request", owner: type) -> str: ...
    def __get__(self, request: "Request | None", owner: type) -> "Self | str":
        return self if request is None else request.attributes.get(self._name, "")


class _Number:
    """An attribute that is a number of at most 18 digits; 0 for anything else."""

    __slots__ = ("_name",)

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, request: None, owner: type) -> Self: ...
    @overload
    def __get__(self, request: "Request", owner: type) -> int: ...
    def __get__(self, request: "Request | None", owner: type) -> "Self | int":
        if request is None:
            return self
        text = request.attributes.get(self._name, "")
        return int(text) if text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS else 0


@dataclass(frozen=True, slots=True)
class Request:
    """A question. Most fields are read out of `attributes` when they are asked for, because most never are."""

    attributes: Mapping[str, str]
    state: State | None
    """When it is asked; None for a state that is not known here."""
    client: ClientAddress | None
    """The client's address; None when Postfix does not know it ("unknown")."""

    @classmethod
    def of(cls, attributes: Mapping[str, str]) -> Self:
        """The question with these attributes."""
        state = _STATES.get(attributes.get("protocol_state", ""))
        return cls(attributes, state, _client(attributes.get("client_address", "")))

    protocol_name = _Text()
    client_name = _Text()
    reverse_client_name = _Text()
    client_port = _Text()
    server_address = _Text()
    server_port = _Text()
    helo_name = _Text()
    sender = _Text()
    """Empty for the null sender."""
    recipient = _Text()
    """At DATA and END-OF-MESSAGE only when there is just one."""
    recipient_count = _Number()
    """How many were accepted; at DATA and END-OF-MESSAGE only."""
    queue_id = _Text()
    """Empty until the first recipient was accepted."""
    instance = _Text()
    """The same for all questions about one transaction. Empty before MAIL was accepted."""
    size = _Number()
    """Octets: what was declared at MAIL, and the true size at END-OF-MESSAGE."""
    etrn_domain = _Text()
    stress = _Text()
    sasl_method = _Text()
    sasl_username = _Text()
    """Who has logged in."""
    sasl_sender = _Text()
    ccert_subject = _Text()
    ccert_issuer = _Text()
    ccert_fingerprint = _Text()
    ccert_pubkey_fingerprint = _Text()
    encryption_protocol = _Text()
    """Empty without TLS."""
    encryption_cipher = _Text()
    encryption_keysize = _Number()
    policy_context = _Text()
    compatibility_level = _Text()
    mail_version = _Text()


@lru_cache(maxsize=CACHED_CLIENTS)
def _client(text: str) -> ClientAddress | None:
    try:
        return ip_address(text) if "%" not in text else None
    except ValueError:
        return None
