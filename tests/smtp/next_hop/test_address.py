"""`open_next_hop` and its URLs."""

import pytest

from reputation.errors import ConfigError
from smtp_frontend.next_hop import open_next_hop
from smtp_frontend.next_hop.address import HopAddress, StartTls
from smtp_frontend.next_hop.maildir import MaildirNextHop


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("smtp://mail.example.net", HopAddress(scheme="smtp", host="mail.example.net", port=25, starttls=StartTls.MAY)),
        (
            "smtp://mail.example.net:2525/",
            HopAddress(scheme="smtp", host="mail.example.net", port=2525, starttls=StartTls.MAY),
        ),
        ("lmtp://192.0.2.1", HopAddress(scheme="lmtp", host="192.0.2.1", port=24, starttls=StartTls.MAY)),
        ("smtp://[2001:db8::1]:26", HopAddress(scheme="smtp", host="2001:db8::1", port=26, starttls=StartTls.MAY)),
        ("smtp://[::1]", HopAddress(scheme="smtp", host="::1", port=25)),
        ("smtp://localhost", HopAddress(scheme="smtp", host="localhost", port=25)),
        ("smtp://127.0.0.2", HopAddress(scheme="smtp", host="127.0.0.2", port=25)),
        (
            "smtp://localhost?starttls=require",
            HopAddress(scheme="smtp", host="localhost", port=25, starttls=StartTls.REQUIRE),
        ),
        ("smtp://a.example?starttls=no", HopAddress(scheme="smtp", host="a.example", port=25)),
        ("lmtp:///run/dovecot/lmtp", HopAddress(scheme="lmtp", path="/run/dovecot/lmtp")),
        ("smtp:/run/smtp", HopAddress(scheme="smtp", path="/run/smtp")),
        ("lmtp:///run/a%20b?starttls=no", HopAddress(scheme="lmtp", path="/run/a b")),
        ("smtp://localhost?xclient=yes", HopAddress(scheme="smtp", host="localhost", port=25, xclient=True)),
        ("lmtp:///run/lmtp?xclient=yes", HopAddress(scheme="lmtp", path="/run/lmtp", xclient=True)),
        ("smtp://localhost?xclient=no", HopAddress(scheme="smtp", host="localhost", port=25)),
        (
            "smtp://a.example?xclient=yes&starttls=require",
            HopAddress(scheme="smtp", host="a.example", port=25, starttls=StartTls.REQUIRE, xclient=True),
        ),
        ("maildir:./data/mail", HopAddress(scheme="maildir", path="./data/mail")),
        ("maildir:/var/mail/in", HopAddress(scheme="maildir", path="/var/mail/in")),
        ("maildir:///var/mail/in", HopAddress(scheme="maildir", path="/var/mail/in")),
    ],
)
def test_urls(url: str, address: HopAddress) -> None:
    assert HopAddress.parse(url) == address


@pytest.mark.parametrize(
    "url",
    [
        "",
        "mail.example.net",
        "http://mail.example.net",
        "smtp://",
        "smtp:relative/socket",
        "smtp://:25",
        "smtp://host:0",
        "smtp://host:65536",
        "smtp://host:smtp",
        "smtp://[::1",
        "smtp://user:secret@host",
        "smtp://host/path",
        "smtp://host#fragment",
        "smtp://host?starttls",
        "smtp://host?starttls=maybe",
        "smtp://host?starttls=may&starttls=no",
        "smtp://host?timeout=3",
        "smtp://host?xclient",
        "smtp://host?xclient=maybe",
        "smtp://host?xclient=yes&xclient=yes",
        "smtp://host?starttls=may&timeout=3",
        "maildir:/var/mail?xclient=yes",
        "lmtp:///run/lmtp?starttls=require",
        "maildir:",
        "maildir://host/path",
        "maildir:/var/mail?starttls=no",
        "maildir:/var/%00",
    ],
)
def test_urls_that_cannot_be_right(url: str) -> None:
    with pytest.raises(ConfigError, match="next hop"):
        HopAddress.parse(url)


def test_only_lmtp_is_limited_to_one_recipient() -> None:
    urls = ("smtp://mail.example.net", "lmtp://127.0.0.1:24", "lmtp:///run/lmtp", "maildir:mail")
    hops = [open_next_hop(url, hostname="mx.example.net", timeout_seconds=1) for url in urls]
    assert [hop.max_recipients for hop in hops] == [None, 1, 1, None]
    assert isinstance(hops[-1], MaildirNextHop)


@pytest.mark.parametrize(("hostname", "timeout_seconds"), [("", 1), ("a b", 1), ("a\r\nRSET", 1), ("ö", 1), ("a", 0)])
def test_settings_that_cannot_be_right(hostname: str, timeout_seconds: float) -> None:
    with pytest.raises(ConfigError, match="next hop"):
        open_next_hop("smtp://localhost", hostname=hostname, timeout_seconds=timeout_seconds)
