"""The door to the functions in ``lua/``: their source, their names, and how commands are written and answers read."""

import binascii
import hashlib
from collections.abc import Iterator, Sequence
from importlib.resources import files

from reputation.charges import EVIDENCE_NUMBERS, Answer, Charge, Charging, Given, Kind, Over
from reputation.contracts import Series
from reputation.keys import Key
from reputation.windows import MICROSECONDS, Window

_PARTS = sorted((files("reputation.store") / "lua").iterdir(), key=lambda part: part.name)
_TEMPLATE = "\n".join(part.read_text(encoding="utf-8") for part in _PARTS if part.name.endswith(".lua"))
VERSION = hashlib.sha256(_TEMPLATE.encode()).hexdigest()[:12]
SOURCE = f"#!lua name=reputon_{VERSION}\n" + _TEMPLATE.replace("@VERSION@", VERSION)
assert f"EVIDENCE_SIZE = {EVIDENCE_NUMBERS} " in SOURCE
SLOTS = 16_384

DECIDE, REFUND, RENEW = (f"reputon_{VERSION}_{name}" for name in ("decide", "refund", "renew"))
SERIES, COUNTS, SAW, SKETCH = (f"reputon_{VERSION}_{name}" for name in ("series", "counts", "saw", "sketch"))
OFFER, BOARD, BEAT, NOW = (f"reputon_{VERSION}_{name}" for name in ("offer", "board", "beat", "now"))
ENTER, STRIKE, REMARK, ENTRIES, PAGE, AUDIT = (
    f"reputon_{VERSION}_{name}" for name in ("enter", "strike", "remark", "entries", "page", "audit")
)
PUBLISH = f"reputon_{VERSION}_publish"

Word = str | bytes | int
TOKEN_BYTES = 8
MAX_TEXTS = 10_000
"""Plans whose text is remembered as a bulk string."""

# Commands are written by hand for clusters, which get one for each key: hiredis' own writer takes 8.8 us for seven
# keys, this takes 4.9. For one command about all of them they are even.


def bulk(word: Word) -> bytes:
    """A word of a command as it goes over the wire (RESP, "bulk string")."""
    data = word if isinstance(word, bytes) else str(word).encode("utf-8", "surrogatepass")
    return b"$%d\r\n%b\r\n" % (len(data), data)


class _Bulks(dict[str, bytes]):
    """Texts as bulk strings, remembered."""

    def __missing__(self, text: str) -> bytes:
        if len(self) >= MAX_TEXTS:
            self.clear()
        written = self[text] = bulk(text)
        return written


class _Rests(dict[str, bytes]):
    """How the names of keys go on after the entity, by metric."""

    def __missing__(self, metric: str) -> bytes:
        rest = self[metric] = f"}}:{metric}".encode()
        return rest


_LENGTHS = tuple(b"$%d\r\n" % length for length in range(1_024))
_RESTS = _Rests()


def named(key: Key, opened: bytes) -> tuple[bytes, bytes]:
    """The hash tag of a key, and its spelling as a bulk string, after what stands before the tag (`opening`).

    Not remembered: that would cost as much, and keep the garbage collector busy.
    """
    (dimension, id), metric, scope = key
    tag = "".join((dimension, ":", id)).encode("utf-8", "surrogatepass")  # noqa: FLY002 - as in `Key.spelled`
    rest = f"}}:{metric}:{scope}".encode() if scope else _RESTS[metric]
    length = len(opened) + len(tag) + len(rest)
    head = _LENGTHS[length] if length < 1_024 else b"$%d\r\n" % length
    return tag, b"".join((head, opened, tag, rest, b"\r\n"))


def opening(prefix: str) -> bytes:
    """What all keys begin with."""
    return f"{prefix}:{{".encode()


def slot_of(key: str) -> int:
    """The cluster slot of a key with a hash tag: CRC16 (XMODEM) of what stands between the braces.

    >>> slot_of("rp:{user1000}:messages") == slot_of("{user1000}")
    True
    """
    return slot_of_tag(key[key.index("{") + 1 : key.index("}")].encode("utf-8", "surrogatepass"))


def slot_of_tag(tag: bytes) -> int:
    """The cluster slot of all keys with a hash tag."""
    return binascii.crc_hqx(tag, 0) % SLOTS


def slot_of_name(name: str) -> int:
    """The cluster slot of any key: of what stands between its first braces, or of all of it when nothing does.

    >>> slot_of_name("foo{}{bar}") == slot_of_tag(b"foo{}{bar}"), slot_of_name("foo{{bar}}zap") == slot_of_tag(b"{bar")
    (True, True)
    """
    _, _, behind = name.partition("{")
    tag, closed, _ = behind.partition("}")
    return slot_of_tag((tag if tag and closed else name).encode("utf-8", "surrogatepass"))


_NOTHING = bulk("")
_NUMBERS = tuple(bulk(number) for number in range(1_000))
_TEXTS = _Bulks()


def _head(function: str, keys: int, arguments: int) -> bytes:
    return b"*%d\r\n" % (3 + keys + arguments) + bulk("FCALL") + bulk(function) + bulk(keys)


_DECIDE_HEADS = tuple(_head(DECIDE, keys, 2 + 2 * keys) for keys in range(100))


def _amount_of(charge: Charge) -> bytes:
    if charge.plan.of_units:
        return _NUMBERS[charge.cost] if charge.cost < 1_000 else bulk(charge.cost)
    if charge.plan.kind is Kind.EVIDENCE and charge.member:
        return bulk(f"{charge.member}:{charge.cost}")
    return bulk(charge.member)


def token_of(text: str) -> bytes:
    """How the store remembers a token: 8 bytes of BLAKE2b; nothing for none."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=TOKEN_BYTES).digest() if text else b""


def moment(now_us: int | None) -> Word:
    """A moment as functions take it; without one their server's clock rules."""
    return "" if now_us is None else now_us


def ring_name(window: Window, scope: str = "") -> str:
    """What a ring is called inside its key."""
    return f"{scope}:{window.seconds}:{window.buckets}"


def decide_command(charges: Sequence[Charge], prefix: str, token: str, now_us: int | None) -> bytes:
    """DECIDE about some charges, as it goes over the wire."""
    words = [_DECIDE_HEADS[len(charges)] if len(charges) < 100 else _head(DECIDE, len(charges), 2 + 2 * len(charges))]
    opened = opening(prefix)
    words += [named(charge.key, opened)[1] for charge in charges]
    words += (_NOTHING if now_us is None else bulk(now_us), bulk(token_of(token)) if token else _NOTHING)
    for charge in charges:
        words += (_TEXTS[charge.plan.text], _amount_of(charge))
    return b"".join(words)


def decide_commands(charges: Sequence[Charge], prefix: str, token: str, now_us: int | None) -> list[tuple[int, bytes]]:
    """One DECIDE for each charge, and its slot."""
    head, opened = _DECIDE_HEADS[1], opening(prefix)
    asked = (_NOTHING if now_us is None else bulk(now_us)) + (bulk(token_of(token)) if token else _NOTHING)
    parts = []
    for charge in charges:
        tag, name = named(charge.key, opened)
        command = b"".join((head, name, asked, _TEXTS[charge.plan.text], _amount_of(charge)))
        parts.append((slot_of_tag(tag), command))
    return parts


def refund_command(given: Sequence[Given], prefix: str) -> bytes:
    """REFUND of some charges, as it goes over the wire."""
    opened = opening(prefix)
    words = [_head(REFUND, len(given), 5 * len(given)), *(named(line.charge.key, opened)[1] for line in given)]
    for charge, at_us, prior_us, token in given:
        words += (bulk(at_us), _TEXTS[charge.plan.text], _amount_of(charge), bulk(prior_us), bulk(token_of(token)))
    return b"".join(words)


def command(function: str, keys: Sequence[str], *arguments: Word) -> bytes:
    """A call of any function, as it goes over the wire."""
    return _head(function, len(keys), len(arguments)) + b"".join(map(bulk, (*keys, *arguments)))


def one_answer(charges: Sequence[Charge], token: str, reply: list[int]) -> Answer:
    """Read the reply of a DECIDE that had all charges."""
    allowed, at_us, repeated, *numbers = reply
    return Answer(tuple(charges), allowed == 1, numbers, (at_us,) * len(charges), token, repeated)


def joint_answer(charges: Sequence[Charge], token: str, replies: Sequence[list[int] | None]) -> Answer:
    """Read the replies of one DECIDE per charge, None where there is none.

    When one refuses, the counts are those without what the others were charged.
    """
    allowed, repeated, numbers, times = True, 0, [], []
    missing: frozenset[int] = frozenset()
    for index, reply in enumerate(replies):
        if reply is None:
            missing |= {index}
            times.append(0)
            numbers += [0] * charges[index].plan.size
            continue
        allowed = allowed and reply[0] == 1
        repeated |= reply[2] << index
        times.append(reply[1])
        numbers += reply[3:]
    if not allowed:
        numbers = [number for index, reply in enumerate(replies) for number in _uncharged(charges[index], reply)]
    return Answer(tuple(charges), allowed, numbers, times, token, repeated, missing)


def _uncharged(charge: Charge, reply: list[int] | None) -> Sequence[int]:
    """The numbers of one charge that is going to be given back."""
    if reply is None:
        return [0] * charge.plan.size
    answer = one_answer((charge,), "", reply)
    if not answer.allowed or answer.repeated:
        return answer.numbers
    numbers, position = list(answer.numbers), 0
    for meter in charge.plan.meters:
        counted = meter.charging is Charging.ACCEPTED and not (
            meter.over is Over.SKIPS and answer.is_over(position, meter)
        )
        for window in meter.windows:
            if counted and _has_counted(charge, answer, window):
                numbers[position] -= charge.cost
            position += 2
    return numbers


def _has_counted(charge: Charge, answer: Answer, window: Window) -> bool:
    """Whether an allowed charge has added to the count: a member that was there already has not, nor has what says
    how it was before."""
    if charge.plan.kind is Kind.SEEN:
        return False
    if charge.plan.kind is not Kind.DISTINCT:
        return True
    return answer.numbers[-1] <= answer.at_us - window.seconds * MICROSECONDS


def series_of(key: Key, rings: Sequence[Sequence[bytes | int]]) -> Iterator[Series]:
    """Read what SERIES says of one key."""
    for name, last, *cells in rings:
        assert isinstance(name, bytes)
        scope, seconds, buckets = name.decode().rsplit(":", 2)
        window = Window(int(seconds))
        width_us = -(-window.seconds * MICROSECONDS // int(buckets))
        first = int(last) - len(cells) + 1
        counts = [int(cell) for cell in cells]
        yield Series(
            key=key,
            scope=scope,
            window=window,
            count=sum(counts),
            buckets=tuple(
                ((first + position) * width_us / MICROSECONDS, count) for position, count in enumerate(counts)
            ),
        )
