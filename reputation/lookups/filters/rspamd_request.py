"""How rspamd is told about a message beside its text: the header fields of ``POST /checkv2``. Pure.

Who is connected (IP, Helo, User), the envelope (From, one Rcpt each), the session's id for its log (Queue-Id), the
client's confirmed reverse name where it is known (Hostname), and whose question it is (MTA-Name). ``Flags: groups``
asks for the scores of groups, of which `reputation.lookups.filters.rspamd_answer` looks at one.

rspamd takes no request whose header has 80 KB or more, so of very many recipients only the first are named: a stranger
would otherwise choose that his message is not filtered.
"""

from collections.abc import Iterator

from reputation.events import Data
from reputation.lookups.filters import wording
from reputation.lookups.names import unmapped

MAX_RECIPIENTS_LENGTH = 32_768
"""Octets of recipients."""


def fields(event: Data, *, password: str, hostname: str, rdns: str) -> list[tuple[str, str]]:
    """Names and values, each of which is one value whatever the client chose."""
    session = event.session
    told = [
        ("IP", str(unmapped(session.client))),
        ("Helo", wording.value(session.helo)),
        ("User", wording.value(session.user)),  # with it, rspamd takes the client for one of ours
        ("From", wording.path(event.sender)),
        ("Queue-Id", wording.value(session.id)),
        ("Hostname", wording.ascii_value(rdns)),
        ("MTA-Name", wording.ascii_value(hostname)),
        ("Password", password),
        ("Flags", "groups"),
    ]
    return [(name, value) for name, value in told if value] + [("Rcpt", path) for path in _recipients(event)]


def _recipients(event: Data) -> Iterator[str]:
    length = 0
    for recipient in event.recipients:
        path = wording.path(recipient)
        length += len(path) + len("Rcpt: \r\n")
        if length > MAX_RECIPIENTS_LENGTH:
            return
        yield path
