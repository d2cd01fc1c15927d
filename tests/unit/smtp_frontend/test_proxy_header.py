"""The PROXY protocol: what is a header, for whom it speaks, and what is none."""

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest

from smtp_frontend.proxy_header import MAX_OCTETS, ProxyHeader, ProxyHeaderError, crc32c, parse
from tests.proxy_headers import CHECKSUM, SIGNATURE, TLS, checked, tcp4, tcp6, value, version_2

NOBODY = (None, None, False)


def told(octets: bytes) -> tuple[object, object, bool]:
    """For whom a whole header speaks. What follows it changes nothing, and without its last octet it is none."""
    header = parse(octets)
    assert header is not None
    assert header.size == len(octets)
    assert parse(octets + b"EHLO client.example\r\n") == header
    assert parse(octets[:-1]) is None
    return header.source, header.destination, header.tls


def refused(octets: bytes) -> str:
    with pytest.raises(ProxyHeaderError) as caught:
        parse(octets)
    return str(caught.value)


# Version 1


@pytest.mark.parametrize(
    ("line", "source", "destination"),
    [
        (b"PROXY TCP4 192.0.2.7 198.51.100.25 56324 25\r\n", "192.0.2.7", "198.51.100.25"),
        (b"PROXY TCP4 255.255.255.255 0.0.0.0 65535 0\r\n", "255.255.255.255", "0.0.0.0"),
        (b"PROXY TCP6 2001:db8::7 2001:DB8::19 1 25\r\n", "2001:db8::7", "2001:db8::19"),
        (b"PROXY TCP6 " + b"ffff:" * 7 + b"ffff ::1 1 25\r\n", "ffff:" * 7 + "ffff", "::1"),
        (b"PROXY TCP6 ::ffff:192.0.2.7 ::ffff:c633:6419 1 25\r\n", "192.0.2.7", "198.51.100.25"),
    ],
)
def test_a_line_names_the_client_and_what_it_has_connected_to(line: bytes, source: str, destination: str) -> None:
    assert told(line) == (ip_address(source), ip_address(destination), False)


@pytest.mark.parametrize("rest", [b"", b" ", b" " + b"f" * 90, b" TCP4 192.0.2.7 \xff\0\x85"])
def test_an_unknown_client_is_nobody_whatever_else_is_said(rest: bytes) -> None:
    assert told(b"PROXY UNKNOWN" + rest + b"\r\n") == NOBODY


@pytest.mark.parametrize(
    "line",
    [
        b"PROXY \r\n",
        b"PROXY  TCP4 192.0.2.7 192.0.2.1 1 25\r\n",
        b"PROXY TCP4  192.0.2.7 192.0.2.1 1 25\r\n",
        b"PROXY TCP4 192.0.2.7 192.0.2.1 1 25 \r\n",
        b"PROXY TCP4 192.0.2.7 192.0.2.1 1\r\n",
        b"PROXY TCP4 192.0.2.7\t192.0.2.1 1 25\r\n",
        b"PROXY tcp4 192.0.2.7 192.0.2.1 1 25\r\n",
        b"PROXY TCP5 192.0.2.7 192.0.2.1 1 25\r\n",
        b"PROXY UDP4 192.0.2.7 192.0.2.1 1 25\r\n",
        b"PROXY UNKNOWNS\r\n",
        b"PROXY TCP4 192.0.2.7 192.0.2.1 01 25\r\n",
        b"PROXY TCP4 192.0.2.7 192.0.2.1 1 +25\r\n",
        b"PROXY TCP4 192.0.2.7 192.0.2.1 1 \xd9\xa3\r\n",
        b"PROXY TCP4 192.0.2.7 192.0.2.1 1 123456\r\n",
        b"PROXY TCP6 fe80::1%eth0 ::1 1 25\r\n",
        b"PROXY TCP6 [::1] ::1 1 25\r\n",
        b"PROXY TCP4 mx.example.net 192.0.2.1 1 25\r\n",
    ],
)
def test_a_line_of_another_form_is_refused(line: bytes) -> None:
    assert refused(line) == "a line that is no header of version 1"


@pytest.mark.parametrize(
    ("family", "address"),
    [
        (b"TCP4", b"192.0.2"),
        (b"TCP4", b"192.0.2.7.1"),
        (b"TCP4", b"192.0.2.07"),
        (b"TCP4", b"192.0.2.256"),
        (b"TCP4", b"2001:db8::7"),
        (b"TCP6", b"192.0.2.7"),
        (b"TCP6", b"2001:db8:7"),
        (b"TCP6", b"1::2::3"),
        (b"TCP6", b"0:0:0:0:0:0:0:0:0"),
        (b"TCP6", b"::00001"),
    ],
)
def test_an_address_of_another_form_or_family_is_refused(family: bytes, address: bytes) -> None:
    good = b"192.0.2.1" if family == b"TCP4" else b"::1"
    text = f"not an address of {family.decode()}: {address.decode()}"
    assert refused(b"PROXY %s %s %s 1 25\r\n" % (family, address, good)) == text
    assert refused(b"PROXY %s %s %s 1 25\r\n" % (family, good, address)) == text


def test_a_port_that_there_cannot_be_is_refused() -> None:
    assert refused(b"PROXY TCP4 192.0.2.7 192.0.2.1 65536 25\r\n") == "a port above 65535"
    assert refused(b"PROXY TCP4 192.0.2.7 192.0.2.1 1 99999\r\n") == "a port above 65535"


@pytest.mark.parametrize("end", [b"\n", b"\r\r\n", b"\rx", b"\n\r"])
def test_a_line_ends_in_crlf_and_nothing_else(end: bytes) -> None:
    assert refused(b"PROXY TCP4 192.0.2.7 192.0.2.1 1 25" + end) == "a bare CR or LF in the line"
    assert refused(b"PROXY UNKNOWN x" + end + b"EHLO x\r\n") == "a bare CR or LF in the line"


def test_a_line_has_107_octets_at_most() -> None:
    assert told(b"PROXY UNKNOWN " + b"f" * 91 + b"\r\n") == NOBODY
    longer = b"PROXY UNKNOWN " + b"f" * 92 + b"\r\n"
    assert parse(longer[:106]) is None
    assert refused(longer[:107]) == refused(longer) == "no CRLF within 107 octets"


# Version 2


def test_a_binary_header_names_the_client_and_what_it_has_connected_to() -> None:
    assert told(tcp4("192.0.2.7", "198.51.100.25")) == (ip_address("192.0.2.7"), ip_address("198.51.100.25"), False)
    assert told(tcp6("2001:db8::7", "2001:db8::19")) == (ip_address("2001:db8::7"), ip_address("2001:db8::19"), False)


def test_ipv4_inside_of_ipv6_is_ipv4() -> None:
    source, destination, _ = told(tcp6("::ffff:192.0.2.7", "2001:db8::19"))
    assert (source, destination) == (IPv4Address("192.0.2.7"), IPv6Address("2001:db8::19"))


@pytest.mark.parametrize("family", [0x00, 0x11, 0x21, 0x31, 0x4F, 0xFF])
@pytest.mark.parametrize("block", [b"", bytes(12), b"\xff" * 300])
def test_a_load_balancer_may_speak_for_itself_whatever_else_it_says(family: int, block: bytes) -> None:
    assert told(version_2(0x20, family, block)) == NOBODY


@pytest.mark.parametrize("family", [0x00, 0x01, 0x02, 0x10, 0x12, 0x20, 0x22, 0x30, 0x31, 0x32])
@pytest.mark.parametrize("block", [b"", bytes(216), b"\xff" * 300])
def test_whoever_comes_by_other_means_than_tcp_has_no_address(family: int, block: bytes) -> None:
    assert told(version_2(0x21, family, block)) == NOBODY


@pytest.mark.parametrize("family", [0x40, 0x13, 0x23, 0x03, 0xF1])
def test_a_family_or_protocol_that_there_is_not_is_refused_at_once(family: int) -> None:
    assert refused(SIGNATURE + bytes([0x21, family])) == f"no such address family and protocol: {family:02x}"


@pytest.mark.parametrize("command", [0x00, 0x01, 0x10, 0x11, 0x22, 0x2F, 0x30, 0x31, 0xFF])
def test_another_version_or_command_is_refused_at_once(command: int) -> None:
    assert refused(SIGNATURE + bytes([command])) == f"version and command {command:02x} are not 20 or 21"


@pytest.mark.parametrize(("family", "size"), [(0x11, 11), (0x21, 35), (0x11, 0)])
def test_a_header_that_is_too_short_for_its_addresses_is_refused(family: int, size: int) -> None:
    assert refused(version_2(0x21, family, bytes(size))) == "too short for its addresses"


def test_a_binary_header_has_a_largest_size() -> None:
    assert told(version_2(0x20, 0, bytes(MAX_OCTETS - 16))) == NOBODY
    too_long = version_2(0x20, 0, bytes(MAX_OCTETS - 15))
    assert parse(too_long[:15]) is None
    assert refused(too_long[:16]) == refused(too_long) == f"a header of {MAX_OCTETS + 1} octets"


# What follows the addresses


@pytest.mark.parametrize(
    ("values", "tls"),
    [
        (value(0x04, b"") + value(0x05, b"id") + value(0xE0, bytes(300)), False),
        (TLS, True),
        (value(0x04, b"x") + TLS + value(0x02, b"mx.example.net"), True),
        (value(0x20, b"\x07" + bytes(4)), True),
        (value(0x20, b"\x06" + bytes(4)), False),
        (TLS + value(0x20, b"\x00" + bytes(4)), True),
    ],
)
def test_a_load_balancer_says_whether_the_client_speaks_tls(values: bytes, tls: bool) -> None:
    assert told(tcp4("192.0.2.7", values=values)) == (ip_address("192.0.2.7"), ip_address("198.51.100.25"), tls)
    assert told(tcp6("2001:db8::7", values=values))[2] is tls


@pytest.mark.parametrize("values", [b"\x04", b"\x04\x00", b"\x04\x00\x02x", TLS + b"\x00", TLS[:-1]])
def test_a_value_that_is_cut_off_is_refused(values: bytes) -> None:
    assert refused(tcp4("192.0.2.7", values=values)) == "a value that is longer than the header"


def test_too_little_about_tls_is_refused() -> None:
    assert refused(tcp4("192.0.2.7", values=value(0x20, b"\x01\x00\x00\x00"))) == "too little about TLS"


@pytest.mark.parametrize("values", [CHECKSUM, TLS + CHECKSUM, CHECKSUM + TLS])
def test_a_checksum_is_verified(values: bytes) -> None:
    header = checked(tcp6("2001:db8::7", values=values))
    assert told(header)[0] == ip_address("2001:db8::7")
    for at in range(16, 16 + 36):
        wrong = header[:at] + bytes([header[at] ^ 1]) + header[at + 1 :]
        assert refused(wrong) == "the checksum is wrong"


def test_a_checksum_of_another_size_and_a_second_one_are_refused() -> None:
    assert refused(tcp4("192.0.2.7", values=value(0x03, bytes(3)))) == "a checksum that has not four octets"
    assert refused(tcp4("192.0.2.7", values=value(0x03, bytes(5)))) == "a checksum that has not four octets"
    assert refused(checked(tcp4("192.0.2.7", values=CHECKSUM + CHECKSUM))) in {"two checksums", "the checksum is wrong"}


def test_the_second_of_two_checksums_is_refused_even_when_the_first_is_right() -> None:
    second = value(0x03, b"abcd")
    header = tcp4("192.0.2.7", values=CHECKSUM + second)
    at = len(header) - len(CHECKSUM + second) + 3
    assert refused(header[:at] + crc32c(header).to_bytes(4) + header[at + 4 :]) == "two checksums"


# Anything else


@pytest.mark.parametrize(
    "octets",
    [
        b"E",
        b"EHLO client.example\r\n",
        b"proxy TCP4",
        b"PROXY\r\n",
        b"PROXYT",
        b"\r\n\r\n\0\r\nQUIT\r",
        b"\r\n\r\n\r",
        b"\n",
    ],
)
def test_what_does_not_begin_as_a_header_is_refused_at_once(octets: bytes) -> None:
    assert refused(octets) == "it does not begin as a header does"


def test_what_begins_as_a_header_may_become_one() -> None:
    header = tcp4("192.0.2.7")
    for whole in (header, b"PROXY TCP4 192.0.2.7 198.51.100.25 56324 25\r\n"):
        assert [parse(whole[:size]) for size in range(len(whole))] == [None] * len(whole)
    assert isinstance(parse(header), ProxyHeader)
