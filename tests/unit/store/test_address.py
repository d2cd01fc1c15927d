"""Store URLs: what each part means, and what is said of one that is wrong."""

import ssl
from itertools import product
from pathlib import Path

import pytest

from reputation.config import SERVER_SCHEMES
from reputation.errors import ConfigError
from reputation.store.address import Address, StoreUrl
from tests.servers import tls_files


@pytest.mark.parametrize(
    ("url", "kind", "addresses"),
    [
        ("redis://db", "standalone", [Address("db", 6_379)]),
        ("redis://db:7000/3", "standalone", [Address("db", 7_000)]),
        ("redis://[::1]", "standalone", [Address("::1", 6_379)]),
        ("redis://[::1]:7000", "standalone", [Address("::1", 7_000)]),
        ("unix:///run/a%20b.sock", "standalone", [Address("/run/a b.sock")]),
        ("redis+cluster://a,b:7001", "cluster", [Address("a", 6_379), Address("b", 7_001)]),
        ("redis+cluster://[::1]:7000,[::2]:7001", "cluster", [Address("::1", 7_000), Address("::2", 7_001)]),
        ("redis+sentinel://a,b:7001/mail", "sentinel", [Address("a", 26_379), Address("b", 7_001)]),
    ],
)
def test_where(url: str, kind: str, addresses: list[Address]) -> None:
    parsed = StoreUrl.parse(url)
    assert (parsed.kind, list(parsed.addresses)) == (kind, addresses)
    assert parsed.tls is None


@pytest.mark.parametrize(
    ("url", "username", "password", "database", "service"),
    [
        ("redis://db", "", "", 0, ""),
        ("redis://:pw@db/2", "", "pw", 2, ""),
        ("redis://me:p%40%3A%2F%3F%23@db", "me", "p@:/?#", 0, ""),
        ("redis://me@db", "me", "", 0, ""),
        ("redis://me:a@b@db", "me", "a@b", 0, ""),
        ("unix://me:pw@/run/v.sock?db=4", "me", "pw", 4, ""),
        ("redis+sentinel://me:pw@a/mail%20in/5", "me", "pw", 5, "mail in"),
        ("redis+cluster://me:pw@a,b/0", "me", "pw", 0, ""),
    ],
)
def test_who_and_which(url: str, username: str, password: str, database: int, service: str) -> None:
    parsed = StoreUrl.parse(url)
    found = (parsed.username, parsed.password, parsed.database, parsed.service)
    assert found == (username, password, database, service)


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("http://db", "unknown kind of store: known are redis, rediss"),
        ("redis", "unknown kind of store"),
        ("redis://", "server 1 is not HOST:PORT"),
        ("redis://db:", "server 1 is not HOST:PORT"),
        ("redis://db:0", "server 1 is not HOST:PORT"),
        ("redis://db:65536", "server 1 is not HOST:PORT"),
        ("redis://db:²", "server 1 is not HOST:PORT"),
        (f"redis://db:{'9' * 5_000}", "server 1 is not HOST:PORT"),
        ("redis://[::1", r"an IPv6 address is written as \[::1\]"),
        ("redis://a,b", r"several servers are .* redis\+cluster:// or redis\+sentinel://"),
        ("redis+cluster://a,,b", "server 2 is not HOST:PORT"),
        ("redis+cluster://a/1", "a cluster has no database but 0"),
        ("redis://db/mail", "a database is a number"),
        ("redis://db/²", "a database is a number"),
        (f"redis://db/{'9' * 5_000}", "a database is a number"),
        ("redis://db/0/extra", "nothing follows the database"),
        ("redis+cluster://a/0/extra", "nothing follows the database"),
        ("redis+sentinel://a/mail/0/extra", "nothing follows the database"),
        ("redis+sentinel://a", "ends in the name of the group"),
        ("unix://valkey.sock", "three slashes"),
        ("unix:///", "three slashes"),
        ("redis://db?db=1", "what redis:// takes after a question mark: nothing"),
        ("redis://db?ca=/etc/ca.pem", "what redis:// takes after a question mark: nothing"),
        ("rediss://db?verfy=no", "what rediss:// takes after a question mark: ca, cert, key, verify"),
        ("rediss://db?verify=maybe", "verify is yes or no"),
        ("rediss://db?ca=", "nothing follows ca="),
        ("rediss://db?key=/etc/key.pem", "name that, too, with cert=FILE"),
        ("rediss://db?ca=/nowhere/ca.pem", r"No such file or directory \(ca=/nowhere/ca.pem\)"),
        ("rediss://db?ca=%00", r"TLS files cannot be read: embedded null byte \(ca=%00\)"),
        ("redis://d\0b", "server 1 is not HOST:PORT"),
        ("rediss://db?ca=/etc/hostname", r"no certificate.*\(ca=/etc/hostname\)"),
    ],
)
def test_what_is_wrong_is_said(url: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        StoreUrl.parse(url)


@pytest.mark.parametrize("character", "/@#?[]:,%℀")
@pytest.mark.parametrize("scheme", SERVER_SCHEMES)
def test_no_complaint_shows_a_part_of_the_password(scheme: str, character: str) -> None:
    passwords = [f"s3cret{character}S3CRET", f"6379{character}S3CRET", f"s3cret{character}S3CRET@s3cret"]
    places = ["db:x", "db/mail", "db?nonsense=1", "db/0/1", "[::1", "db#", "db:1/0?ca=/nowhere", "", "/run/v.sock"]
    for password, place in product(passwords, places):
        for url in (f"{scheme}://me:{password}@{place}", f"{scheme}://me:{password}{place}"):
            try:
                StoreUrl.parse(url)
            except ConfigError as error:
                assert "s3cret" not in str(error).lower(), url


@pytest.mark.parametrize(
    "url", ["redis://me:pa/ss@db", "redis://me:pa?ss@db", "redis://me:12/ss@db", "redis://me:1#s@db"]
)
def test_a_password_that_is_not_encoded_is_told_how_to_be(url: str) -> None:
    with pytest.raises(ConfigError, match=r"/ @ # \? of a password are written %2F %40 %23 %3F"):
        StoreUrl.parse(url)


def test_a_value_shows_no_password_either() -> None:
    assert "s3cret" not in repr(StoreUrl.parse("redis://me:s3cret@db"))


def test_addresses_are_written_as_they_are_typed() -> None:
    assert [str(Address("db", 1)), str(Address("::1", 1)), str(Address("/run/v.sock"))] == [
        "db:1",
        "[::1]:1",
        "/run/v.sock",
    ]


@pytest.mark.parametrize("scheme", ["rediss", "rediss+cluster", "rediss+sentinel"])
def test_tls_checks_the_server_unless_told_otherwise(scheme: str) -> None:
    careful = StoreUrl.parse(f"{scheme}://db/{'mail' if 'sentinel' in scheme else ''}").tls
    careless = StoreUrl.parse(f"{scheme}://db/{'mail' if 'sentinel' in scheme else ''}?verify=no").tls
    assert careful is not None
    assert careless is not None
    assert (careful.check_hostname, careful.verify_mode) == (True, ssl.CERT_REQUIRED)
    assert careful.minimum_version == ssl.TLSVersion.TLSv1_2
    assert (careless.check_hostname, careless.verify_mode) == (False, ssl.CERT_NONE)


def test_tls_trusts_the_authority_and_shows_the_certificate_that_are_named(tmp_path: Path) -> None:
    files = tls_files(tmp_path)
    context = StoreUrl.parse(f"rediss://db?ca={files.ca}&cert={files.certificate}&key={files.key}").tls
    assert context is not None
    assert context.cert_store_stats()["x509_ca"] == 1
    with pytest.raises(ConfigError, match=r"cannot be read.*cert="):
        StoreUrl.parse(f"rediss://db?cert={files.certificate}&key={files.ca}")
