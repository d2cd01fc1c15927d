"""Whom mail may be sent to: the tests for open relays, as pure questions."""

from ipaddress import ip_address

import pytest

from reputation.front_end_settings import SmtpSettings
from smtp_frontend.relaying import Relaying
from smtp_frontend.visitor import Arrival, arrived

OURS = SmtpSettings(relay_domains=("example.net", "*.example.org", "bücher.example".encode("idna").decode()))


def may(
    recipient: str,
    *,
    client: str = "192.0.2.1",
    user: str = "",
    settings: SmtpSettings = OURS,
    is_unknown: bool = False,
) -> bool:
    visitor = arrived(Arrival(client=ip_address(client), is_check=is_unknown), ())
    visitor.learned(user=user)
    return Relaying(settings).permits(visitor, recipient)


@pytest.mark.parametrize(
    "recipient",
    [
        "bob@example.net",
        "bob@EXAMPLE.net",
        "bob@example.net.",
        "bob@mail.example.org",
        "bob@a.b.example.org",
        "bob@bücher.example",
        "postmaster",
        '"bob smith"@example.net',
        "bob+tag@example.net",
    ],
)
def test_anybody_may_send_to_our_domains(recipient: str) -> None:
    assert may(recipient)


@pytest.mark.parametrize(
    "recipient",
    [
        "bob@example.com",
        "bob@mail.example.net",
        "bob@example.org",
        "bob@badexample.org",
        "bob@example.net.example.com",
        "bob@[192.0.2.1]",
        "bob@192.0.2.1",
        "bob%example.com@example.net",
        "example.com!bob@example.net",
        '"bob@example.com"@example.net',
        '"bob%example.com"@example.net',
        "bob\N{FULLWIDTH PERCENT SIGN}example.com@example.net",
        "bob\N{FULLWIDTH COMMERCIAL AT}example.com@example.net",
        "bob@example.com\N{FULLWIDTH COMMERCIAL AT}x.example.org",
    ],
)
def test_nobody_else_is_sent_to(recipient: str) -> None:
    assert not may(recipient)


def test_who_has_logged_in_sends_anywhere() -> None:
    assert may("bob@example.com", user="alice")
    assert may("bob%example.com@example.net", user="alice")


def test_our_own_networks_send_anywhere() -> None:
    settings = OURS.model_copy(update={"relay_from": ("198.51.100.0/24", "2001:db8::/32")})
    assert may("bob@example.com", client="198.51.100.9", settings=settings)
    assert may("bob@example.com", client="2001:db8::9", settings=settings)
    assert not may("bob@example.com", client="192.0.2.1", settings=settings)
    assert not may("bob@example.com", client="198.51.100.9", settings=settings, is_unknown=True), "a proxy's own rights"


@pytest.mark.parametrize("domains", [(), ("*",), ("example.net", "*")])
def test_the_next_hop_may_be_left_to_decide(domains: tuple[str, ...]) -> None:
    assert may("bob%example.com@example.com", settings=SmtpSettings(relay_domains=domains))
