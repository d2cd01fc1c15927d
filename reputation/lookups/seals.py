"""One cryptographic signature over fields of a header, by dkimpy: what DKIM and ARC have in common.

    value of a field -> `tags_of` -> `checked` -> the key's record (the DNS) -> `key_of` -> `holds`

Everything comes from strangers: the signature, its key, and how often they have us compute. So all sizes are bounded
before dkimpy or big numbers see them (RFC 6376 section 8.4): a signature field (`MAX_FIELD_OCTETS`, and white space in
it, over which dkimpy's patterns take quadratic time), the names it signs (`MAX_SIGNED_NAMES`), the record of a key
(`MAX_RECORD_OCTETS`), the key itself (RFC 8301 section 3.2: 1024 to 4096 bits) and its exponent.

What differs from dkimpy as it is: the DNS is asked by our own resolver, beforehand; bodies are hashed by
`reputation.lookups.message`; a signature that does not sign From is none (section 6.1.1), SHA-1 and keys below 1024
bits are not accepted (RFC 8301), and of a record t=s, h= and the kind of key are heeded (RFC 6376 section 3.6.1).
"""

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import dkim  # type: ignore[import-untyped]  # it ships no types
import dkim.util  # type: ignore[import-untyped]  # it ships no types either

from reputation.facts import PASS, TEMPERROR
from reputation.lookups import answers
from reputation.lookups.answers import Answer
from reputation.lookups.message import HASHES, Digest, Field, Way
from reputation.lookups.names import MAX_NAME_LENGTH, askable, host_name
from reputation.spelling import canonical_domain

NONE = "none"
FAIL = "fail"
POLICY = "policy"
NEUTRAL = "neutral"
PERMERROR = "permerror"
WORDS = (PASS, TEMPERROR, POLICY, FAIL, NEUTRAL, PERMERROR, NONE)
"""RFC 8601 section 2.7.1, the best first: what may still turn out to be a pass comes next to it."""

MAX_FIELD_OCTETS = 8_192
MAX_SIGNED_NAMES = 256
MAX_RECORD_OCTETS = 2_048
MAX_RECORDS = 4
"""Of a name that may have one only (section 3.6.2.2) these are tried."""
LEAST_BITS, MOST_BITS = 1_024, 4_096
MOST_EXPONENT = 2**32
MAX_IDENTITY_LENGTH = 320
MARK_LENGTH = 8
"""RFC 6008 section 4."""
_LONG_BLANK = re.compile(rb"\s{40}")
_PRINTABLE = re.compile(r"[!-~]*")
_BASE64 = re.compile(rb"[A-Za-z0-9+/]*")

Tags = Mapping[bytes, bytes]

_TRIPPED = (dkim.DKIMException, dkim.util.InvalidTagValueList, ArithmeticError, AttributeError, LookupError)
DKIMPY_ERRORS: tuple[type[Exception], ...] = (*_TRIPPED, AssertionError, TypeError, ValueError)
"""What dkimpy raises over what strangers write; most of it by accident."""


class Unacceptable(Exception):
    """A signature that is not looked at further, for a reason."""

    def __init__(self, word: str) -> None:
        super().__init__(word)
        self.word = word


class Key(NamedTuple):
    """A public key."""

    kind: bytes
    """rsa or ed25519."""
    public: Any
    """As dkimpy takes it."""
    bits: int


def tags_of(field: Field) -> Tags:
    """The tags of a signature (section 3.2). Raises `Unacceptable`."""
    if len(field.value) > MAX_FIELD_OCTETS or _LONG_BLANK.search(field.value):
        raise Unacceptable(POLICY)
    try:
        tags: Tags = dkim.util.parse_tag_value(field.value)
    except DKIMPY_ERRORS:
        raise Unacceptable(NEUTRAL) from None
    return tags


def domain_of(tags: Tags) -> str:
    """Who has signed (d=), in A-labels (RFC 8616 section 5); empty where that is no domain."""
    return _name_in(tags.get(b"d", b""))


def selector_of(tags: Tags) -> str:
    """Which of his keys (s=); empty where that is no name."""
    return _name_in(tags.get(b"s", b""))


def _name_in(octets: bytes) -> str:
    # In UTF-8 a name that fits into 253 octets of A-labels has fewer than four times as many.
    return host_name(canonical_domain(octets.decode("utf-8", "replace"))) if len(octets) < 4 * MAX_NAME_LENGTH else ""


def identity_of(tags: Tags) -> str:
    """On whose behalf (i=), as far as it can be printed."""
    text = tags.get(b"i", b"")[: MAX_IDENTITY_LENGTH + 1].decode("ascii", "replace")
    return text if len(text) <= MAX_IDENTITY_LENGTH and _PRINTABLE.fullmatch(text) else ""


def mark_of(tags: Tags) -> str:
    """The first characters of the signature (b=)."""
    text = b"".join(tags.get(b"b", b"").split())[:MARK_LENGTH]
    return text.decode("ascii") if _BASE64.fullmatch(text) else ""


def signed_names(tags: Tags) -> list[bytes]:
    """The fields that are signed (h=), in lower case."""
    return [name.strip().lower() for name in tags.get(b"h", b"").split(b":")]


def check(tags: Tags, mandatory: Sequence[bytes], *, is_arc: bool = False) -> None:
    """Raise `Unacceptable` for a signature that cannot hold, whatever its key says."""
    try:
        dkim.validate_signature_fields(tags, list(mandatory), is_arc)
    except DKIMPY_ERRORS:
        raise Unacceptable(PERMERROR) from None
    if b"h" in tags:
        names = signed_names(tags)
        if b"from" not in names:  # section 6.1.1
            raise Unacceptable(PERMERROR)
        if len(names) > MAX_SIGNED_NAMES:
            raise Unacceptable(POLICY)
    if not domain_of(tags) or not selector_of(tags) or not key_name(tags):
        raise Unacceptable(PERMERROR)
    if HASHES[tags[b"a"]] == b"sha1":  # RFC 8301 section 3.1
        raise Unacceptable(POLICY)


def key_name(tags: Tags) -> str:
    """Where the key is (section 3.6.2.1); empty where there can be none."""
    return askable(f"{selector_of(tags)}._domainkey.{domain_of(tags)}")


def key_of(answer: Answer, tags: Tags) -> Key:
    """The key in a record. Raises `Unacceptable`, also where there is none."""
    if answer.status == answers.TEMPERROR:
        raise Unacceptable(TEMPERROR)
    records = [record for record in answer.records if isinstance(record, bytes)][:MAX_RECORDS]
    for record in records:
        if len(record) <= MAX_RECORD_OCTETS and (key := _read(record, tags)) is not None:
            if not LEAST_BITS <= key.bits <= MOST_BITS and key.kind == b"rsa":  # RFC 8301 section 3.2
                raise Unacceptable(POLICY)
            return key
    raise Unacceptable(PERMERROR)


def _read(record: bytes, tags: Tags) -> Key | None:
    """The key of one record, None where it is none for this signature."""
    try:
        told = dkim.util.parse_tag_value(record)
        public, bits, kind, is_for_reports = dkim.evaluate_pk("", record)
    except DKIMPY_ERRORS:
        return None
    _, _, hash_name = tags[b"a"].partition(b"-")
    hashes = [name.strip() for name in told.get(b"h", hash_name).split(b":")]
    if kind is None or is_for_reports or hash_name not in hashes or not tags[b"a"].startswith(kind + b"-"):
        return None
    if kind == b"rsa" and not 0 < public["publicExponent"] <= MOST_EXPONENT:
        return None
    flags = [flag.strip() for flag in told.get(b"t", b"").split(b":")]
    _, is_identity, domain = tags.get(b"i", b"").rpartition(b"@")  # in ARC it is a number
    if b"s" in flags and is_identity and domain.lower() != tags[b"d"].lower():  # section 3.6.1: in the very domain
        return None
    return Key(kind, public, bits)


def way_of(tags: Tags) -> Way:
    """How the body of a signature is hashed. Raises `Unacceptable` for a canonicalisation that there is not."""
    header, _, body = tags.get(b"c", b"simple/simple").partition(b"/")
    if {header, body or b"simple"} - {b"simple", b"relaxed"}:
        raise Unacceptable(PERMERROR)
    return Way(body == b"relaxed", HASHES[tags[b"a"]], int(tags[b"l"]) if tags.get(b"l") else None)


def check_body(tags: Tags, digest: Digest) -> None:
    """Raise `Unacceptable` where the body is not the one that was signed."""
    try:
        signed = base64.b64decode(b"".join(tags[b"bh"].split()), validate=True)
    except binascii.Error:
        raise Unacceptable(PERMERROR) from None
    if digest.octets != signed:
        raise Unacceptable(FAIL)
    if tags.get(b"l") and int(tags[b"l"]) < digest.length:  # section 8.2: anybody may have appended anything
        raise Unacceptable(POLICY)


def holds(field: Field, tags: Tags, key: Key, fields: Sequence[Field], names: Sequence[bytes]) -> bool:
    """Whether a signature over these fields, of these names, is one by this key.

    Some hundred microseconds for a 2048-bit key. Of several fields of a name the last ones are taken.
    """
    try:
        size = len(base64.b64decode(b"".join(tags[b"b"].split()), validate=True))
    except binascii.Error:
        return False
    if key.kind == b"rsa" and size != (key.bits + 7) // 8:  # RFC 8017 section 8.2.2
        return False
    signer = dkim.DomainSigner(minkey=LEAST_BITS)
    wanted = set(names)
    signer.headers = [(each.name, each.value) for each in fields if each.key in wanted]
    signer.pk, signer.keysize, signer.ktag, signer.seqtlsrpt = key.public, key.bits, key.kind, False
    # The hash of the body has been compared: without it dkimpy does not look for a body.
    told = {name: value for name, value in tags.items() if name in {b"a", b"b", b"c"}}
    try:
        return bool(signer.verify_sig_process(told, list(names), (field.name, field.value), None))
    except DKIMPY_ERRORS:
        return False
