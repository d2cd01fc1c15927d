"""When a certificate is valid: the few elements of it that are read, and what is no certificate."""

import ssl
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reputation.certificate_dates import Dates, dates_of

SEQUENCE, INTEGER, UTC_TIME, GENERALIZED_TIME, VERSION = 0x30, 0x02, 0x17, 0x18, 0xA0


def element(tag: int, *contents: bytes) -> bytes:
    """An element of DER, with its length in the short or the long form."""
    content = b"".join(contents)
    size = len(content)
    length = bytes([size]) if size < 128 else bytes([0x82]) + size.to_bytes(2)
    return bytes([tag]) + length + content


HEAD = (element(INTEGER, b"\x01"), element(SEQUENCE, b"\x05\x00"), element(SEQUENCE, bytes(200)))
VERSION_3 = element(VERSION, element(INTEGER, b"\x02"))
DATES = (element(UTC_TIME, b"240229120000Z"), element(UTC_TIME, b"491231235959Z"))


def pem(*fields: bytes) -> bytes:
    der = element(SEQUENCE, element(SEQUENCE, *fields))
    return b"some text\n" + ssl.DER_cert_to_PEM_cert(der).encode()


def at(*moment: int) -> float:
    return datetime(*moment, tzinfo=UTC).timestamp()  # type: ignore[arg-type, misc] # year, month, day, ...


def test_the_dates_of_the_first_certificate_are_found() -> None:
    first = pem(VERSION_3, *HEAD, element(SEQUENCE, *DATES), element(SEQUENCE, bytes(20)))
    assert dates_of(first + pem()) == Dates(begins_at=at(2024, 2, 29, 12), ends_at=at(2049, 12, 31, 23, 59, 59))


def test_a_version_1_certificate_does_not_say_its_version() -> None:
    assert dates_of(pem(*HEAD, element(SEQUENCE, *DATES))).begins_at == at(2024, 2, 29, 12)


def test_years_have_two_or_four_digits() -> None:
    dates = (element(UTC_TIME, b"500101000000Z"), element(GENERALIZED_TIME, b"99991231235959Z"))
    assert dates_of(pem(*HEAD, element(SEQUENCE, *dates))) == Dates(
        begins_at=at(1950, 1, 1), ends_at=at(9999, 12, 31, 23, 59, 59)
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"", "no certificate in it"),
        (b"-----BEGIN CERTIFICATE-----\n", "no certificate in it"),
        (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "no certificate in it"),
        (ssl.DER_cert_to_PEM_cert(b"").encode(), "not a certificate"),
        (ssl.DER_cert_to_PEM_cert(b"\x02\x00").encode(), "not a certificate"),
        (ssl.DER_cert_to_PEM_cert(b"\x30\x05\x30").encode(), "a certificate that is cut off"),
        (ssl.DER_cert_to_PEM_cert(b"\x30").encode(), "a certificate that is cut off"),
        (pem(VERSION_3, *HEAD), "a certificate without dates"),
        (pem(*HEAD, element(SEQUENCE, DATES[0])), "a certificate with other dates than two"),
        (pem(*HEAD, element(SEQUENCE, DATES[0], element(INTEGER, b"1"))), "a date of another kind"),
    ],
)
def test_what_is_no_certificate_is_refused(text: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        dates_of(text)


@given(octets=st.binary(max_size=80))
def test_any_octets_have_dates_or_are_refused(octets: bytes) -> None:
    for text in (octets, ssl.DER_cert_to_PEM_cert(octets).encode(), pem(*HEAD, element(SEQUENCE, octets))):
        try:
            dates = dates_of(text)
        except ValueError:
            continue
        assert isinstance(dates, Dates)
