"""Whom an Authentication-Results field (RFC 8601 section 2.2) says that a message is from. Pure, in linear time.

    mx.example; spf=pass smtp.mailfrom=a@b.example; dkim=fail reason="dkim=pass header.d=c.example"
    \\________/  \\________________________________/  \\______________________________________________/
    authserv-id  proves b.example (spf)              proves nothing

Most of such a field is chosen by the sender of the message: local parts, the identity of a signature. So it is read by
its grammar, and what does not follow it proves nothing: a field in which something is not closed, a result that has
anything but properties, a property that comes twice, a name that can be none.

Of a signature, ``header.d`` counts, and ``header.i`` where it is not told.

Does not do: ask whether the field can be trusted. Whoever calls knows where it stood.

Bugs: that there is an authserv-id is not asked, for some leave it out: it is no result, and proves nothing. White
space around the dot of a property, or the slash of a version, is taken for a mistake.
"""

import re
from collections.abc import Iterator, Mapping, Sequence

from reputation.desk.field_tokens import Token, Unreadable, pairs_of, segments_of, unquoted

MAX_DOMAIN = 255

_PROPERTIES: Mapping[str, tuple[str, ...]] = {
    "spf": ("smtp.mailfrom",),
    "dkim": ("header.d", "header.i"),
    "dmarc": ("header.from",),
}
"""Where a method names the domain that it is about (RFC 8601 section 2.7), the best place first."""
_DOMAIN = re.compile(r"[\w-]++(?:\.[\w-]++)*+\.?")


def passed(field: str) -> Iterator[tuple[str, str]]:
    """Method (spf, dkim, dmarc) and domain, as it came, of each result that is a pass.

    >>> list(passed("mx; dkim=pass header.i=victim.example@evil.example; dmarc=fail header.from=victim.example"))
    [('dkim', 'evil.example')]
    """
    try:
        segments = segments_of(field)
    except Unreadable:
        return
    for resinfo in segments:
        method, domain = _result(resinfo)
        if domain:
            yield method, domain


def _result(resinfo: Sequence[Token]) -> tuple[str, str]:
    """Method and domain of one result, the domain empty where it proves none."""
    try:
        told = list(pairs_of(resinfo))
    except Unreadable:
        return "", ""
    if not told or told[0][1].lower() != "pass":
        return "", ""
    method, properties = told[0][0].partition("/")[0], dict(told[1:])
    if len(properties) != len(told) - 1:
        return "", ""
    name = next((name for name in _PROPERTIES.get(method, ()) if name in properties), "")
    return method, _domain(name, properties[name]) if name else ""


def _domain(name: str, value: str) -> str:
    """The domain that a property names; empty where it is none."""
    domain = unquoted(value)
    if name in ("smtp.mailfrom", "header.i"):
        domain = domain[1:-1] if domain.startswith("<") and domain.endswith(">") else domain
        _, at, domain = domain.rpartition("@")  # of a quoted local part, too: no domain has a quotation mark
        if name == "header.i" and not at:  # RFC 6376 section 3.5 wants one
            return ""
    return domain if len(domain) <= MAX_DOMAIN and _DOMAIN.fullmatch(domain) else ""
