"""The Authentication-Results field: ours is told, and only ours may name us."""

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reputation.events import Data, Session
from reputation.facts import LookedUp, Signature
from smtp_frontend import authentication_results
from smtp_frontend.authentication_results import MAX_SIGNATURES, field, without_ours

US = "mx.example.net"
FOUND = LookedUp(
    iprev="pass",
    rdns="mail.example.com",
    spf="pass",
    dkim="pass",
    signatures=(
        Signature(result="pass", domain="example.com", selector="s1", identity="@example.com", mark="dGVzdA=="),
        Signature(result="fail", domain="list.example.org", selector="s2"),
    ),
    dmarc="pass",
    dmarc_policy="reject",
    dmarc_domain="example.com",
    arc="none",
)


def event(sender: str = "alice@example.com", *, user: str = "", client: str = "192.0.2.1") -> Data:
    session = Session(id="s", client=ip_address(client), helo="mail.example.com", user=user)
    return Data(session=session, sender=sender, recipients=("bob@example.net",), message_bytes=1)


def told(found: LookedUp, of: Data | None = None) -> str:
    return field(US, of or event(), found).decode("ascii")


def test_everything_that_was_found_out_is_told() -> None:
    assert told(FOUND) == (
        "Authentication-Results: mx.example.net;\r\n"
        "\tiprev=pass policy.iprev=192.0.2.1 (mail.example.com);\r\n"
        "\tspf=pass smtp.mailfrom=alice@example.com;\r\n"
        '\tdkim=pass header.d=example.com header.s=s1 header.i=@example.com header.b="dGVzdA==";\r\n'
        "\tdkim=fail header.d=list.example.org header.s=s2;\r\n"
        "\tdmarc=pass (p=reject) header.from=example.com;\r\n"
        "\tarc=none\r\n"
    )


def test_nothing_found_out_is_said_so() -> None:
    assert told(LookedUp()) == "Authentication-Results: mx.example.net;\r\n\tnone\r\n"


def test_the_name_of_a_bounces_server_is_told() -> None:
    assert "spf=fail smtp.helo=mail.example.com" in told(LookedUp(spf="fail"), event(""))


def test_an_address_with_colons_is_quoted() -> None:
    assert 'policy.iprev="2001:db8::1"' in told(LookedUp(iprev="fail"), event(client="2001:db8::1"))


@given(st.text(max_size=400))
def test_what_a_client_chose_stays_one_field(text: str) -> None:
    found = LookedUp(spf="pass", iprev="pass", rdns=text, dmarc="fail", dmarc_domain=text, dkim="fail")
    signed = Signature(result="fail", domain=text, selector=text, identity=text, mark=text)
    found = LookedUp(**{**{name: getattr(found, name) for name in found.__slots__}, "signatures": (signed,) * 20})
    lines = told(found, event(text)).split("\r\n")
    assert lines.pop() == ""
    assert lines[0] == "Authentication-Results: mx.example.net;"
    assert all(line.startswith("\t") and line.isascii() and line.isprintable() is False for line in lines[1:])
    assert all(line[1:].isprintable() for line in lines[1:])
    assert sum(line.startswith("\tdkim=") for line in lines) == MAX_SIGNATURES


FORGED = [
    "Authentication-Results: mx.example.net; dkim=pass\r\n",
    "authentication-results:mx.example.net;dkim=pass\r\n",
    "Authentication-Results : MX.Example.NET; dkim=pass\r\n",
    "Authentication-Results:\r\n\tmx.example.net\r\n\t; dkim=pass\r\n",
    'Authentication-Results: "mx.example.net" 1; dkim=pass\r\n',
    "Authentication-Results: (a (nested\\) comment)) mx.example.net; dkim=pass\r\n",
    "Authentication-Results: (" + "x" * 2_000 + ") mx.example.net; dkim=pass\r\n",
    "Authentication-Results: " + "(" * 50 + ")" * 50 + " mx.example.net; dkim=pass\r\n",
    "Authentication-Results: mx.example.net 1; dkim=pass\r\n",
    "Authentication-Results: " + " " * 990 + "mx.example.net; dkim=pass\r\n",
    "Authentication-Results: \r\n" + " " * 990 + "mx.example.net; dkim=pass\r\n",
    'Authentication-Results: "mx\\.example.net"; dkim=pass\r\n',
    "Authentication-Results: mx.(x)example.net; dkim=pass\r\n",
    "Authentication-Results: mx.example.net.; dkim=pass\r\n",
    "Authentication-Results: mx.example.net/1; dkim=pass\r\n",
    "Authentication-Results: \x01mx.example.net; dkim=pass\r\n",
    "Authentication-Results: spf=pass smtp.mailfrom=bank.example\r\n",
]


@pytest.mark.parametrize("forged", FORGED)
def test_what_claims_to_be_ours_is_taken_out(forged: str) -> None:
    header = f"From: a@example.com\r\n{forged}Subject: x\r\n".encode()
    assert without_ours(header, US) == b"From: a@example.com\r\nSubject: x\r\n"


@pytest.mark.parametrize(
    "field_of_others",
    [
        "Authentication-Results: mx.example.com; dkim=pass\r\n",
        "Authentication-Results: mx.example.net.example.com; dkim=pass\r\n",
        "ARC-Authentication-Results: i=1; mx.example.net; dkim=pass\r\n",
        "X-Authentication-Results: mx.example.net; dkim=pass\r\n",
        "Subject: Authentication-Results: mx.example.net; dkim=pass\r\n",
    ],
)
def test_what_others_have_said_stays(field_of_others: str) -> None:
    assert without_ours(field_of_others.encode(), US) == field_of_others.encode()


@given(st.binary(max_size=500).filter(lambda octets: not set(octets) & set(b"\r\n")))
def test_whatever_follows_our_name_the_field_goes(octets: bytes) -> None:
    assert without_ours(b"Authentication-Results: mx.example.net;" + octets + b"\r\n", US) == b""


@given(st.binary(max_size=500))
def test_any_octets_are_looked_through(octets: bytes) -> None:
    assert without_ours(b"Authentication-Results:" + octets, US).count(b"\n") <= octets.count(b"\n")


@pytest.mark.parametrize("part", [b"(", b"(\\", b"(\\(", b"()", b" ", b"\r\n\t", b"(a", b"a.", b'"'])
def test_no_header_holds_everybody_up(part: bytes) -> None:
    """What is looked through is bounded, so a megabyte costs no more than its length: not a clock, but steps, tell."""
    looked_at: list[int] = []

    class Counting(bytes):
        def __getitem__(self, key: object) -> bytes:  # type: ignore[override] # slices are all that is asked for
            cut = bytes(self)[key]  # type: ignore[call-overload] # as above
            looked_at.append(len(cut))
            return cut  # type: ignore[no-any-return] # as above

    authentication_results._author(Counting(part * (2**20 // len(part))))
    assert looked_at == [authentication_results.MAX_HEAD]
    pattern = authentication_results._AUTHOR.pattern
    assert b"*+" in pattern
    assert b"++" in pattern
