"""Command lines into values: the grammar of RFC 5321 section 4.1.2, as far as a relay needs it. No I/O.

Lenient where the world is (no angle brackets, a blank after the colon, dots in odd places, long local
parts), strict where leniency would let two servers read one address differently: quotes, brackets,
control characters and 8-bit bytes must be where the grammar allows them.

Source routes (``<@a,@b:user@c>``) are read and ignored, as RFC 5321 appendix C asks.

XCLIENT is Postfix's extension for proxies (https://www.postfix.org/XCLIENT_README.html). Of its attributes ADDR, HELO
and LOGIN are used; the others are checked and ignored.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_address

from reputation.events import ClientAddress
from smtp_frontend.reply import Reply

MAX_LOCAL_PART = 256
"""RFC 5321 section 4.5.3.1.1 says 64; VERP, SRS and BATV addresses are longer."""
MAX_DOMAIN = 255
MAX_LOGIN = 255

_ATOM = r"[^\s<>()\[\]\\,;:@\"\x00-\x1f\x7f-\x9f]+"
_QUOTED = r"\"(?:[^\"\\\x00-\x1f\x7f-\x9f]|\\[\x20-\x7e])*\""
_DOMAIN = r"[\w\u0080-\U0010ffff](?:[\w.\u0080-\U0010ffff-]*[\w\u0080-\U0010ffff.])?|\[[A-Za-z0-9.:-]+\]"
_ROUTE = rf"(?:@(?:{_DOMAIN}),?)+:"
_PATH = re.compile(
    rf"(?P<open><)?(?:{_ROUTE})?(?P<local>{_ATOM}|{_QUOTED})(?:@(?P<domain>{_DOMAIN}))?(?(open)>)(?P<rest>[ \t].*|)$",
    re.DOTALL,
)
_NULL_PATH = re.compile(r"<>(?P<rest>[ \t].*|)$", re.DOTALL)
_PARAMETER = re.compile(r"([A-Za-z0-9][A-Za-z0-9-]*)(?:=([\x21-\x3c\x3e-\x7e]+))?")
_HELO = re.compile(r"[A-Za-z0-9_\[][A-Za-z0-9_.:\[\]-]{0,254}")
_XTEXT = re.compile(rb"(?:[\x21-\x2a\x2c-\x3c\x3e-\x7e]|\+[0-9A-F]{2})+")
_UNAVAILABLE = frozenset({"[UNAVAILABLE]", "[TEMPUNAVAIL]"})


class CommandError(Exception):
    """A command that is refused for what it says; carries the reply."""

    def __init__(self, code: int, enhanced: str, text: str) -> None:
        super().__init__(text)
        self.reply = Reply(code, text, enhanced)


@dataclass(frozen=True, slots=True, kw_only=True)
class MailCommand:
    """MAIL FROM."""

    sender: str
    declared_bytes: int = 0
    eight_bit: bool = False
    smtputf8: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class XclientCommand:
    """XCLIENT: for whom a proxy speaks. None is what it did not name; empty, what it does not know."""

    names_client: bool = False
    """Whether there was an ADDR; without a `client` its value is not known."""
    client: ClientAddress | None = None
    helo: str | None = None
    user: str | None = None


def split(line: bytes) -> tuple[str, bytes]:
    """Verb in upper case, and the rest without surrounding blanks."""
    verb, _, argument = line.strip(b" \t").partition(b" ")
    return verb.upper().decode("ascii", "replace"), argument.strip(b" \t")


def parse_helo(argument: bytes) -> str:
    """The name that a client gives itself: a domain or an address literal, never trusted."""
    name = argument.decode("ascii", "replace")
    if not _HELO.fullmatch(name):
        raise CommandError(501, "5.5.4", "Give your host name or address literal")
    return name


def parse_mail(argument: bytes) -> MailCommand:
    """``FROM:<reverse-path> [parameters]``."""
    text = _decoded(argument, "FROM:")
    null = _NULL_PATH.match(text)
    sender, rest = ("", null["rest"]) if null else _path(text, "5.1.7")
    command = {"sender": sender, "declared_bytes": 0, "eight_bit": False, "smtputf8": False}
    for name, value in _parameters(rest):
        match name, value:
            case "SIZE", str() if value.isdigit() and len(value) <= 20:  # RFC 1870 section 3
                command["declared_bytes"] = int(value)
            case "BODY", "7BIT" | "8BITMIME":  # RFC 6152
                command["eight_bit"] = value == "8BITMIME"
            case "SMTPUTF8", None:  # RFC 6531
                command["smtputf8"] = True
            case "SIZE" | "BODY" | "SMTPUTF8", _:
                raise CommandError(501, "5.5.4", f"Bad value of {name}")
            case _:
                raise CommandError(555, "5.5.4", f"Parameter {name} is not known")
    parsed = MailCommand(**command)  # type: ignore[arg-type] # one value of each field's own type
    _check_ascii(sender, parsed.smtputf8)
    return parsed


def parse_rcpt(argument: bytes, smtputf8: bool) -> str:
    """``TO:<forward-path>``; parameters are those of extensions that we do not offer."""
    recipient, rest = _path(_decoded(argument, "TO:"), "5.1.3")
    for name, _ in _parameters(rest):
        raise CommandError(555, "5.5.4", f"Parameter {name} is not known")
    if "@" not in recipient and recipient.lower() != "postmaster":  # RFC 5321 section 4.5.1
        raise CommandError(501, "5.1.3", "Recipient needs a domain")
    _check_ascii(recipient, smtputf8)
    return recipient


def parse_xclient(argument: bytes) -> XclientCommand:
    """``NAME=value NAME=value ...``, each value in xtext (RFC 3461 section 4)."""
    values: dict[str, str] = {}
    for word in argument.split():
        name, equals, value = word.partition(b"=")
        attribute = name.upper().decode("ascii", "replace")
        check = XCLIENT_ATTRIBUTES.get(attribute)
        if check is None or not equals or attribute in values:
            raise CommandError(501, "5.5.4", "Syntax: XCLIENT attribute=value, each attribute once")
        text = _xtext(value)
        values[attribute] = "" if text.upper() in _UNAVAILABLE else text
        if values[attribute] and not check(text):
            raise CommandError(501, "5.5.4", f"Bad value of {attribute}")
    if not values:
        raise CommandError(501, "5.5.4", "Syntax: XCLIENT attribute=value")
    return XclientCommand(
        names_client="ADDR" in values,
        client=_address(values.get("ADDR", "")),
        helo=values.get("HELO"),
        user=values.get("LOGIN"),
    )


def _xtext(value: bytes) -> str:
    """The text that was meant: printable UTF-8, or it could begin a line of its own in a header or a log."""
    if _XTEXT.fullmatch(value):
        octets = re.sub(rb"\+(..)", lambda match: bytes([int(match[1], 16)]), value)
        text = octets.decode("utf-8", "replace")
        if text.isprintable() and "\ufffd" not in text:
            return text
    raise CommandError(501, "5.5.4", "A value that is not xtext")


def _address(text: str) -> ClientAddress | None:
    """IPv6 addresses have a prefix, and no zone: that is text of any kind."""
    prefix, bare = (text[:5], text[5:]) if text[:5].upper() == "IPV6:" else ("", text)
    try:
        address = ip_address(bare)
    except ValueError:
        return None
    return address if (address.version == 6) == bool(prefix) and "%" not in bare else None


def _is_port(text: str) -> bool:
    return re.fullmatch(r"[0-9]{1,5}", text) is not None and int(text) <= 65_535


def _is_host(text: str) -> bool:
    return _HELO.fullmatch(text) is not None


def _is_address(text: str) -> bool:
    return _address(text) is not None


XCLIENT_ATTRIBUTES: Mapping[str, Callable[[str], bool]] = {
    "NAME": _is_host,
    "ADDR": _is_address,
    "PORT": _is_port,
    "PROTO": lambda text: text.upper() in {"SMTP", "ESMTP"},
    "HELO": _is_host,
    "LOGIN": lambda text: len(text) <= MAX_LOGIN,
    "DESTADDR": _is_address,
    "DESTPORT": _is_port,
}
"""Attribute -> whether a value can be one; in the order in which they are announced."""


def _decoded(argument: bytes, keyword: str) -> str:
    if argument[: len(keyword)].upper() != keyword.encode():
        raise CommandError(501, "5.5.4", f"Syntax: {keyword}<address>")
    try:
        return argument[len(keyword) :].decode("utf-8").lstrip(" \t")
    except UnicodeDecodeError:
        raise CommandError(501, "5.5.2", "8-bit characters that are not UTF-8") from None


def _path(text: str, enhanced: str) -> tuple[str, str]:
    match = _PATH.match(text)
    if match is None:
        raise CommandError(501, enhanced, "Address is not valid")
    local, domain = match["local"], match["domain"] or ""
    if len(local) > MAX_LOCAL_PART or len(domain) > MAX_DOMAIN:
        raise CommandError(501, enhanced, "Address is too long")
    return (f"{local}@{domain}" if domain else local), match["rest"]


def _parameters(rest: str) -> Iterator[tuple[str, str | None]]:
    for word in re.findall(r"[^ \t]+", rest):
        match = _PARAMETER.fullmatch(word)
        if match is None:
            raise CommandError(501, "5.5.4", "Parameter is not valid")
        yield match[1].upper(), match[2].upper() if match[2] else None


def _check_ascii(address: str, smtputf8: bool) -> None:
    # RFC 6531 section 3.3: UTF-8 in an address needs the SMTPUTF8 parameter.
    if not smtputf8 and not address.isascii():
        raise CommandError(553, "5.6.7", "A non-ASCII address needs SMTPUTF8")
