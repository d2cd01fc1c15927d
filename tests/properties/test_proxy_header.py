"""Any octets are a header of the PROXY protocol, the beginning of one, or none; how they are cut does not matter."""

from hypothesis import given
from hypothesis import strategies as st

from smtp_frontend.proxy_header import MAX_OCTETS, ProxyHeader, ProxyHeaderError, octets_wanted, parse
from tests.proxy_headers import CHECKSUM, TLS, checked, tcp4, tcp6, value, version_2

v4, v6 = st.ip_addresses(v=4).map(str), st.ip_addresses(v=6).map(str)
port = st.integers(min_value=0, max_value=70_000).map(str)
lines = st.builds(
    lambda *words, end: " ".join(words).encode() + end,
    st.just("PROXY"),
    st.sampled_from(["TCP4", "TCP6", "UNKNOWN"]),
    *[v4 | v6 | st.text("0123456789abcdef:.", max_size=20)] * 2,
    *[port] * 2,
    end=st.sampled_from([b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r", b""]),
)
values = st.lists(
    st.builds(value, st.sampled_from([0x02, 0x03, 0x04, 0x20, 0xE0]), st.binary(max_size=12)) | st.just(TLS), max_size=4
).map(b"".join)
good = (
    st.builds(lambda source, destination, more: tcp4(source, destination, values=more), v4, v4, values)
    | st.builds(lambda source, destination, more: tcp6(source, destination, values=more), v6, v6, values)
    | st.builds(lambda source: checked(tcp4(source, values=TLS + CHECKSUM)), v4)
)
odd = st.builds(
    version_2,
    st.sampled_from([0x20, 0x21]) | st.integers(min_value=0, max_value=255),
    st.sampled_from([0x00, 0x11, 0x21, 0x31]) | st.integers(min_value=0, max_value=255),
    st.binary(max_size=60),
)


def spoiled(header: bytes, at: int, octet: int) -> bytes:
    """The header with one octet that is another."""
    at %= len(header)
    return header[:at] + bytes([octet]) + header[at + 1 :]


headers = lines | good | odd
octet = st.integers(min_value=0, max_value=255)
octets_of_a_connection = st.binary(max_size=200) | st.builds(
    bytes.__add__, headers | st.builds(spoiled, headers, octet, octet), st.binary(max_size=130)
)


def outcome(octets: bytes) -> ProxyHeader | str | None:
    try:
        return parse(octets)
    except ProxyHeaderError as error:
        return str(error)


@given(octets=octets_of_a_connection)
def test_cuts_do_not_matter(octets: bytes) -> None:
    """Octet by octet: first more is needed, and from some octet on the outcome is always the same."""
    whole = outcome(octets)
    outcomes = [outcome(octets[:size]) for size in range(len(octets) + 1)]
    decided = next((size for size, found in enumerate(outcomes) if found is not None), len(outcomes))
    assert outcomes[decided:] == [whole] * (len(outcomes) - decided)
    assert whole is None or decided <= MAX_OCTETS
    if isinstance(whole, ProxyHeader):
        assert whole.size == decided
        assert (whole.source is None) == (whole.destination is None)


@given(octets=octets_of_a_connection)
def test_it_is_decided_within_bounds(octets: bytes) -> None:
    assert outcome(octets.ljust(MAX_OCTETS, b"\0")) is not None


@given(source=v4, destination=v4)
def test_both_versions_say_the_same(source: str, destination: str) -> None:
    line, binary = parse(f"PROXY TCP4 {source} {destination} 1 25\r\n".encode()), parse(tcp4(source, destination))
    assert line is not None
    assert binary is not None
    assert (line.source, line.destination, line.tls) == (binary.source, binary.destination, binary.tls)


@given(header=headers, behind=st.binary(min_size=1, max_size=30))
def test_whoever_reads_what_is_wanted_leaves_what_follows(header: bytes, behind: bytes) -> None:
    """Behind the header may be a TLS handshake, of which not an octet may be taken."""
    whole, octets = outcome(header + behind), b""
    if not isinstance(whole, ProxyHeader):
        return
    while (found := parse(octets)) is None:
        octets = (header + behind)[: len(octets) + octets_wanted(octets)]
    assert (found, len(octets)) == (whole, whole.size)
