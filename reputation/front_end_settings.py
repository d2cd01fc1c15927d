"""``[smtp]`` and its sub-tables, ``[policy_service]`` and ``[[filter]]``: what the front ends are told.

Every setting has its default and its meaning beside it. Shares the door to pydantic with `reputation.config`.
"""

import re
from ipaddress import ip_network
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from reputation.rule_settings import SERVICE_NAME, Table, spelled

NEXT_HOP_SCHEMES = ("smtp", "lmtp", "maildir")
FINAL_ANSWER_FACTOR = 10
"""How much longer the answer to a whole message may take than any other (RFC 5321 section 4.5.3.2.6)."""
ANY_DOMAIN = "*"
_DOMAIN = re.compile(r"(?:\*\.)?[a-z0-9_](?:[a-z0-9_-]{0,62})(?:\.[a-z0-9_-]{1,63})*")


def _host_port(text: str) -> str:
    host, colon, port = text.rpartition(":")
    is_bracketed = host.startswith("[") and host.endswith("]")
    if not colon or not host or not port.isdigit() or int(port) > 65_535 or (":" in host and not is_bracketed):
        raise ValueError(f'"{text}" is not HOST:PORT: write "127.0.0.1:25" or "[::1]:25"')
    return text


def is_loopback(host_port: str) -> bool:
    """Whether an address to listen on is reached from this machine only."""
    return host_port.startswith(("127.", "[::1]", "localhost:"))


def _host_port_or_socket(text: str) -> str:
    return text if text.startswith("unix:/") else _host_port(text)


def _network(text: str) -> str:
    try:
        network = ip_network(text)
    except ValueError:
        raise ValueError(
            f'"{text}" is no address or network: write "192.0.2.7" or "192.0.2.0/24", with nothing behind the prefix'
        ) from None
    if not network.prefixlen:
        raise ValueError(f"{text} is everybody: name your own machines")
    return text


def _next_hop(text: str) -> str:
    scheme, colon, rest = text.partition(":")
    if not colon or scheme not in NEXT_HOP_SCHEMES or not rest.strip("/"):
        raise ValueError(
            "unknown kind of next hop: write smtp://HOST:PORT, lmtp://HOST:PORT, lmtp:///SOCKET or maildir:DIRECTORY"
        )
    return text


def _service(text: str) -> str:
    if not text or re.fullmatch(SERVICE_NAME, text) is None:
        raise ValueError(f'"{text}" is no class of service: write a lower-case word, such as dirty')
    return text


def _domain(text: str) -> str:
    if text != ANY_DOMAIN and _DOMAIN.fullmatch(text) is None:
        raise ValueError(f'"{text}" is no domain: write "example.net", "*.example.net" for its subdomains, or "*"')
    return text


def _one_domain(text: str) -> str:
    if text and ("*" in text or _DOMAIN.fullmatch(text) is None):
        raise ValueError("write one domain, such as example.net")
    return text


def _one_of_schemes(*schemes: str, example: str) -> AfterValidator:
    def check(text: str) -> str:
        scheme, colon, rest = text.partition(":")
        try:
            reachable = bool(rest.strip("/")) and urlsplit(text).port != 0
        except ValueError:
            reachable = False
        if not colon or scheme not in schemes or not reachable:
            raise ValueError(f"write {example}")
        return text

    return AfterValidator(check)


Networks = Annotated[tuple[Annotated[str, AfterValidator(_network)], ...], Field(strict=False)]
Addresses = Annotated[tuple[Annotated[str, AfterValidator(_host_port)], ...], Field(strict=False)]


class TlsSettings(Table):
    """``[smtp.tls]``: STARTTLS, and TLS from the first octet on `listen_submissions`."""

    certificate: str
    """PEM file with the certificate chain."""
    key: str
    """PEM file with the private key."""
    directory: str = ""
    """More of them, for several names: NAME.pem and NAME.key; `_.example.net.pem` is for all names in example.net."""
    minimum_version: Literal["1.2", "1.3"] = "1.2"
    """Oldest version of TLS that is spoken."""


class AuthSettings(Table):
    """``[smtp.auth]``: who may send as a user, with AUTH PLAIN or LOGIN."""

    url: Annotated[
        str,
        _one_of_schemes(
            *("passwd", "ldap", "ldaps", "ldapi", "dovecot", "smtp", "smtps"),
            example="passwd:FILE, ldap://HOST, ldaps://HOST, dovecot:SOCKET, dovecot://HOST:PORT or smtp://HOST:PORT",
        ),
    ]
    """Who knows the passwords: passwd:FILE, ldap://HOST:PORT, ldaps://, dovecot:SOCKET, dovecot://HOST:PORT, smtp://HOST:PORT."""
    default_domain: Annotated[str, AfterValidator(_one_domain)] = ""
    """Appended to a login without a domain."""
    deadline_seconds: Annotated[float, Field(gt=0, le=60)] = 10.0
    """How long a log-in may take to be checked; then it is 454."""
    max_failures: Annotated[int, Field(ge=1)] = 5
    """Log-ins that may fail in one session before it is closed."""
    ldap_user_dn: str = ""
    """The name to bind with, {user} filled in, such as "uid={user},ou=people,dc=example,dc=net"."""
    ldap_base: str = ""
    """Where to search for the user instead, such as "ou=people,dc=example,dc=net"."""
    ldap_filter: str = "(uid={user})"
    """What to search for, {user} filled in; just one entry may be found."""
    ldap_bind_dn: str = ""
    """The name to search with; empty searches anonymously."""
    ldap_bind_password: str = ""
    """Its password."""
    ldap_starttls: bool = False
    """Whether ldap:// turns into TLS before a password is sent."""
    ldap_ca: str = ""
    """PEM file with the authority to trust; empty takes the system's."""

    @model_validator(mode="after")
    def _check_ldap(self) -> "AuthSettings":
        if self.url.startswith("ldap") and bool(self.ldap_user_dn) == bool(self.ldap_base):
            raise ValueError("url: ldap needs one of ldap_user_dn (bind at once) and ldap_base (search, then bind)")
        if self.ldap_user_dn and "{user}" not in self.ldap_user_dn:
            raise ValueError("ldap_user_dn: {user} must stand in it")
        if "{user}" not in self.ldap_filter:
            raise ValueError("ldap_filter: {user} must stand in it")
        return self


class SmtpSettings(Table):
    """``[smtp]``: the SMTP front end."""

    listen: Addresses = ("127.0.0.1:2525",)
    """HOST:PORT to listen on for mail from anywhere; port 0 takes a free one."""
    listen_submission: Addresses = ()
    """HOST:PORT for users, such as port 587: STARTTLS, and AUTH before MAIL (RFC 6409)."""
    listen_submissions: Addresses = ()
    """The same with TLS from the first octet, such as port 465 (RFC 8314)."""
    workers: Annotated[int, Field(ge=1, le=256)] = 1
    """Processes that share the ports; what has a maximum here has it in each of them."""
    hostname: Annotated[str, spelled(r"[A-Za-z0-9.\[\]:-]{0,255}", "write the full name of a host")] = ""
    """The name in the greeting and in Received; empty takes the machine's."""
    next_hop: Annotated[str, AfterValidator(_next_hop)] = "maildir:./data/mail"
    """Where accepted mail goes: smtp://, lmtp://HOST:PORT, lmtp:///SOCKET or maildir:DIRECTORY."""
    services: dict[Annotated[str, AfterValidator(_service)], Annotated[str, AfterValidator(_next_hop)]] = Field(
        default={}, frozen=True
    )
    """Next hops of their own for classes of service: {dirty = "smtp://127.0.0.1:10026"}."""
    relay_domains: Annotated[tuple[Annotated[str, AfterValidator(_domain)], ...], Field(strict=False)] = ()
    """Domains that anybody may send to: "example.net", "*.example.net"; "*", or nothing, leaves it to the next hop."""
    relay_from: Networks = ()
    """Addresses and networks that may send to any domain; users who have logged in may, too."""
    tls: TlsSettings | None = None
    auth: AuthSettings | None = None
    xclient_from: Networks = ()
    """Addresses and networks of our own proxies, which may say with XCLIENT for whom they ask."""
    proxy_from: Networks = ()
    """Addresses and networks of our own load balancers, whose connections begin with the PROXY protocol."""
    greeting_delay_seconds: Annotated[float, Field(ge=0, le=60)] = 0.0
    """How long every greeting waits for who speaks too early; a rule can do so for some."""
    authentication_results: bool = False
    """Whether SPF, DKIM, DMARC, ARC and iprev are looked up for every message, and told in its header (RFC 8601)."""
    max_message_bytes: Annotated[int, Field(ge=65_536, le=2**31)] = 50 * 2**20
    """Largest message; announced as SIZE (RFC 1870)."""
    spool_bytes: Annotated[int, Field(ge=4_096, le=2**31)] = 2**20
    """Messages that grow beyond this are kept in a file, not in memory, while they come in."""
    spool_directory: str = ""
    """Where; empty takes the machine's directory for temporary files."""
    max_recipients: Annotated[int, Field(ge=100, le=100_000)] = 1_000
    """Recipients of one message; more get 452 (RFC 5321 section 4.5.3.1.10)."""
    max_sessions: Annotated[int, Field(ge=1)] = 2_000
    """Sessions at once; more are told 421."""
    max_sessions_per_ip: Annotated[int, Field(ge=1)] = 100
    """Sessions of one client address (IPv6: one /64) at once; more are told 421. Our own proxies have no such bound."""
    max_sleepers: Annotated[int, Field(ge=0)] = 500
    """Sessions that may be held back (tarpit, throttle) at once; more are answered without delay."""
    max_delay_seconds: Annotated[float, Field(ge=0, le=240)] = 30.0
    """The longest that one answer is held back."""
    max_errors: Annotated[int, Field(ge=1)] = 20
    """Commands that may fail in one session before it is closed with 421."""
    command_timeout_seconds: Annotated[float, Field(gt=0)] = 300.0
    """Wait for the next command (RFC 5321 section 4.5.3.2.7)."""
    data_timeout_seconds: Annotated[float, Field(gt=0)] = 600.0
    """Time for the whole text of one message."""
    next_hop_timeout_seconds: Annotated[float, Field(gt=0)] = 60.0
    """Wait for one answer of the next hop; its answer to the message itself may take ten times as long."""
    drain_seconds: Annotated[float, Field(ge=0)] = 10.0
    """At the end: how long open transactions may take to finish; a message that the next hop is taking may longer."""

    @property
    def longest_drain_seconds(self) -> float:
        """When a drain is over for sure. To cut off a message that the next hop is taking could deliver it twice."""
        return self.drain_seconds + FINAL_ANSWER_FACTOR * self.next_hop_timeout_seconds

    @model_validator(mode="after")
    def _check_parts_fit(self) -> "SmtpSettings":
        if (self.listen_submission or self.listen_submissions) and self.auth is None:
            raise ValueError("listen_submission: nobody could log in there; say in [smtp.auth] who knows the passwords")
        if (self.listen_submission or self.listen_submissions) and self.tls is None:
            raise ValueError("listen_submission: passwords come over TLS only; name a certificate in [smtp.tls]")
        if self._faces_the_world:
            self.check_relaying()
        return self

    def check_relaying(self) -> None:
        """Raise ValueError where it is not said whom strangers may send to, and a next hop might pass it on."""
        hops = (self.next_hop, *self.services.values())
        if not self.relay_domains and any(hop.startswith("smtp:") for hop in hops):
            raise ValueError(
                'relay_domains is missing, and strangers get here: write your domains, ["example.net"]; or ["*"] if '
                "the next hop itself refuses what is not its own, whoever brings it"
            )

    @property
    def _faces_the_world(self) -> bool:
        """Whether strangers get here: it listens on more than loopback, or somebody passes them on."""
        return bool(self.proxy_from or self.xclient_from) or any(not is_loopback(text) for text in self.listen)


class PolicyServiceSettings(Table):
    """``[policy_service]``: answers Postfix (SMTPD_POLICY_README), and whoever else asks in its words."""

    listen: Annotated[tuple[Annotated[str, AfterValidator(_host_port_or_socket)], ...], Field(strict=False)] = ()
    """HOST:PORT or unix:/PATH to listen on; empty: the service is not offered."""
    deadline_seconds: Annotated[float, Field(gt=0, le=60)] = 5.0
    """How long one answer may take, delays included; then it is `on_trouble`."""
    on_trouble: Literal["DUNNO", "DEFER_IF_PERMIT"] = "DUNNO"
    """What is answered when we cannot tell: DUNNO lets the mail pass, DEFER_IF_PERMIT has it come again."""
    max_connections: Annotated[int, Field(ge=1)] = 1_000
    """Connections at once; one more is closed at once, and Postfix does what its default action says."""
    prepend: bool = True
    """Whether the message gets our X-Reputon field by PREPEND, when a rule has tagged it."""


class FilterSettings(Table):
    """``[[filter]]``: content filters, which are asked about every message."""

    url: Annotated[
        str,
        _one_of_schemes(
            *("rspamd", "rspamds", "spamd", "clamd"),
            example="rspamd://HOST:PORT, rspamds://HOST:PORT (TLS), spamd://HOST:PORT, clamd://HOST:PORT or clamd:///SOCKET",
        ),
    ]
    """rspamd://HOST:PORT (rspamds:// by TLS), spamd://HOST:PORT, clamd://HOST:PORT; for sockets spamd:///PATH, clamd:///PATH."""
    password: str = ""
    """For rspamd's `Password` header; empty for none."""
    deadline_seconds: Annotated[float, Field(gt=0, le=300)] = 10.0
    """How long its answer may take; then the message has not been filtered."""
    max_bytes: Annotated[int, Field(ge=1_024)] = 20 * 2**20
    """Larger messages are not sent to it."""
    on_failure: Literal["accept", "tempfail"] = "accept"
    """What becomes of a message that it could not be asked about."""
    learn: bool = True
    """Whether its verdict is evidence for, or against, whoever sent the message."""
