"""URLs of content filters."""

import pytest

from reputation.errors import ConfigError
from reputation.lookups.filters.address import Address
from reputation.lookups.filters.asking import check_filters
from tests.unit.lookups.filters.conftest import filter_at


@pytest.mark.parametrize(
    ("url", "address", "name"),
    [
        ("rspamd://127.0.0.1:11333", Address(scheme="rspamd", host="127.0.0.1", port=11_333), "rspamd://127.0.0.1:11333"),
        ("rspamd://[::1]:11333/", Address(scheme="rspamd", host="::1", port=11_333), "rspamd://[::1]:11333"),
        ("spamd://Filter.example:783", Address(scheme="spamd", host="filter.example", port=783), "spamd://filter.example:783"),
        ("clamd:///run/clamav/clamd.ctl", Address(scheme="clamd", path="/run/clamav/clamd.ctl"), "clamd:///run/clamav/clamd.ctl"),
        ("spamd:/run/a%20b", Address(scheme="spamd", path="/run/a b"), "spamd:///run/a b"),
        ("rspamds://h:1?ca=/etc/ca.pem", Address(scheme="rspamds", host="h", port=1, ca="/etc/ca.pem"), "rspamds://h:1"),
    ],
)  # fmt: skip
def test_what_a_url_says(url: str, address: Address, name: str) -> None:
    assert Address.parse(url) == address
    assert str(address) == name


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://127.0.0.1:80", "known are rspamd, rspamds, spamd, clamd"),
        ("rspamd://127.0.0.1", 'such as "rspamd://127.0.0.1:11333"'),
        ("rspamd://:11333", 'such as "rspamd://HOST:11333"'),
        ("rspamd:///run/rspamd.sock", "listens on HOST:PORT only"),
        ("rspamd://127.0.0.1:11333/checkv2", "write HOST:PORT"),
        ("rspamd://me:secret@127.0.0.1:11333", "stands in `password`"),
        ("rspamd://127.0.0.1:1#x", "nothing but HOST:PORT"),
        ("rspamd://127.0.0.1:1?ca=/x", "of rspamds:// only"),
        ("rspamds://127.0.0.1:1?verify=no", "is ca=FILE"),
        ("rspamds://127.0.0.1:1?ca=", "is ca=FILE"),
        ("spamd://[::1:783", "is written as"),
        ("spamd://host:99999", "no address"),
        (f"spamd://{'a' * 64}.example:783", "no name that a host may have"),
        ("clamd:///", "path of a socket"),
        ("clamd:///run/x?y=z", "path of a socket"),
        ("clamd:///run/%00x", "path of a socket"),
    ],
)
def test_a_mistake_is_told_with_what_to_write_and_without_a_password(url: str, says: str) -> None:
    with pytest.raises(ConfigError) as raised:
        Address.parse(url)
    assert says in str(raised.value)
    assert "secret" not in str(raised.value)


def test_a_filter_is_named_once() -> None:
    twice = [filter_at("rspamd://LOCALHOST:11333"), filter_at("rspamd://localhost:11333/")]
    with pytest.raises(ConfigError, match="is there twice"):
        check_filters(twice)
    check_filters([filter_at("rspamd://localhost:11333"), filter_at("rspamd://localhost:11334")])


def test_a_password_is_for_rspamd_and_stands_on_one_line() -> None:
    check_filters([filter_at("rspamd://localhost:11333", password="secret")])
    with pytest.raises(ConfigError, match="does not ask for any"):
        check_filters([filter_at("clamd://localhost:3310", password="secret")])
    with pytest.raises(ConfigError, match="no value of a header field"):
        check_filters([filter_at("rspamd://localhost:11333", password="se\ncret")])
