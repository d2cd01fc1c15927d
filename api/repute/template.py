"""The template of queries, as ``/.well-known/repute-template`` tells it (RFC 7072 section 3.2). Pure.

    http://{service}:8025/repute/{application}/{subject}/{assertion}{?identity}

It is RFC 6570. ``{service}`` is the host that was asked for it, without a port (RFC 7072 section 3.3), so the port that
the client came to stands in the template. No variable that may be empty makes another path of it: without an assertion
it ends in a slash, and without an identity it has no query.

Bugs: a proxy in front that speaks TLS is known by its X-Forwarded-Proto, or by the setting `plain_from_anywhere`.
"""

import re

PATH = "/repute/{application}/{subject}/{assertion}{?identity}"
_PORT = re.compile(r"(?:\[[^\]]*\]|[^:\[\]]*):([0-9]{1,5})")


def template_of(*, is_secure: bool, host: str) -> str:
    """The template, for a client whose request had `host` in its Host field.

    >>> template_of(is_secure=False, host="rep.example.net:8025")
    'http://{service}:8025/repute/{application}/{subject}/{assertion}{?identity}'
    >>> template_of(is_secure=True, host="rep.example.net")
    'https://{service}/repute/{application}/{subject}/{assertion}{?identity}'
    """
    match = _PORT.fullmatch(host)
    port = f":{int(match[1])}" if match and 0 < int(match[1]) <= 65_535 else ""
    return f"{'https' if is_secure else 'http'}://{{service}}{port}{PATH}"
