"""How well the reputation ranks real mail, each message scored before it is learned.

Method: the mails of a file (columns ts, ip, envelope_domain, from_domain, is_list, subject, label_spam; others are not
looked at) pass in order of time through `reputation.standing`. The first 20 % are only learned. Evidence fades and is
forgotten as in the store. There are no mailboxes in the file: the full domain of the envelope stands for the sender,
its organisational domain for the sender's domain, and likewise for the author. The class is "list" or "direct".

    auc                  how often a bad mail has a higher score than a good one
    tpr_at_fpr_0_003     the share of bad mail above a score that at most 0.3 % of the good ones reach

Beside these stand plainer models of the same mail, one step after the other, and the whole one on the two parts of the
file: the first half was looked at while choosing, the rest not.

    raw_ratio            the address' own bad / all; the base rate where there is nothing
    flat_prior           the address' own, shrunk to the base rate
    client_hierarchy     provider > network > address, the long sums only
    client_two_horizons  ... and the short ones
    client_and_sender    ... and the envelope sender's domain > sender
    without_class        ... and author and subject, but no levels by class
    equal_weights        everything, and all hierarchies weigh the same
    without_asn          everything but the provider (only where it is known)

--quick runs the same on a small stream that is made here, where addresses behave as their networks do and domains say
little, and on the file too if it is there. ``--data FILE`` names another file; without any there is no figure.
Providers come from a table that `benchmarks.networks` finds, or from ``--asn FILE``; without one the level is left out,
which ``mails_with_asn`` says.

What was tried
--------------
On the SpamAssassin corpus (June 2001 to September 2002), on mails 20 % to 50 % in order of time only: 513 bad ones, 587
good. 0.3 % of those is a single mail, so "low" was watched too, the mean share caught at up to 1 % of false positives,
and whether something holds in both halves of that part. Figures are AUC, tpr at 0.003, low. Taken one after the other::

    client: provider > network > address, long sums       0.870  0.25   0.35    priors weigh 2 messages
    and sender, author, subject, one weight for all       0.972  0.37   0.52
    and the short sums, at each level after the long      0.981  0.54   0.58    weigh 1 message
    and address within class                              0.983  0.59   0.60
    and short sums against half a message                 0.983  0.64   0.62
    and author within class                               0.984  0.69   0.65
    weights 0.7 0.7 1 1.5                                 0.986  0.71   0.68

Tried and not taken, each against the step where it was tried::

    short sums at the end of all levels                   0.983  0.54   0.59    against 0.983 0.59 0.60
    short sums of the narrowest level only                0.982  0.57   0.58
    the mean of both horizons, in log odds                0.980  0.51   0.60
    long sums only                                        0.978  0.46   0.56
    a broader level counts only newcomers' mail           0.981  0.48   0.61    against 0.981 0.54 0.58
    an unknown level begins with the rate of newcomers    0.980  0.55   0.59
    a broader level does not count the narrower's mail    0.979  0.50   -       against 0.980 0.49 -
    HELO as a hierarchy of its own                        0.980  0.44   0.56    against 0.983 0.64 0.62
    HELO as a level below the address                     0.983  0.64   0.61
    the class as a hierarchy of its own                   0.982  0.59   0.61
    the class as the broadest level of all                0.979  0.54   0.60    against 0.983 0.59 0.60
    sender and author as a pair, below the sender         0.984  0.63   0.62    against 0.983 0.64 0.62
    address and author as a pair, below the address       0.983  0.54   0.61
    a fixed base rate of 0.3; 0.5; 0.7                    0.981 to 0.983  0.60 to 0.66  0.61
    at most 3; 10; 50 messages of evidence are heard      0.984 to 0.983  0.58 to 0.64  0.64 to 0.62
    the square root of the evidence is heard              0.983  0.59   0.61
    priors of 0.5 to 6, against short sums 0.25 to 1      0.981 to 0.985  0.54 to 0.67  0.61 to 0.65
    sender within class                                   0.984  0.62   0.63    against 0.984 0.69 0.65
    weights 0.5 0.5 1 1; 1 1 1 2; 0.5 0.5 1 1.5           0.985 to 0.986  0.50 to 0.69  0.65 to 0.68
    without the provider                                  0.986  0.70   0.70    against 0.986 0.71 0.68
    without provider and network                          0.986  0.68   0.70

The provider does not earn its place on that part. It was kept because the design wants it for networks that spread over
many prefixes, of which a corpus of one site has few. Where the numbers differ by less than 0.02, chance decides.

Then once, at the end, on all of it: 0.991 and 0.65; on the half that had not been looked at 0.993 and 0.68; and without
the provider, on all of it, 0.990 and 0.65. Of that half only its sizes had been seen: how many mails, lists and spam.

Bugs: the corpus' good and bad mail came in part to different people, which makes it easier than a site's own stream.
The table of networks is of today, the mail is not.
"""

import argparse
import csv
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, ip_address
from itertools import groupby
from pathlib import Path
from random import Random

from benchmarks import networks
from benchmarks.report import Report, at_least, main
from reputation import standing
from reputation.keys import Entity
from reputation.score import KINDS, Evidence, EvidenceKind, decayed, kept_seconds
from reputation.spelling import canonical_domain, escaped, network_id, organisational_domain, subject_id
from reputation.standing import LEVELS, Hierarchy, MessageStanding, Tally, base_rate, standing_of_message

DATA = networks.ROOT.parent / "shared/data/spamassassin_first70.csv.gz"
WARM_UP, CHOSEN_ON = 0.2, 0.5
"""Parts of the stream that are only learned, and that the numbers were chosen on."""
FALSE_POSITIVES = 0.003
PROMISED = {"auc": at_least(0.955), "tpr_at_fpr_0_003": at_least(0.5)}
SUBJECT_KEY = b"a benchmark keeps no secret"
SITE = Entity("site", "all")
CLIENT, SENDER = LEVELS[Hierarchy.CLIENT], LEVELS[Hierarchy.SENDER]

Known = dict[Entity, Evidence]


@dataclass(frozen=True, slots=True)
class Mail:
    """What is known of a message, and what it was."""

    seconds: float
    bad: bool
    entities: tuple[Entity, ...]


class Memory:
    """The evidence of all entities, faded and forgotten as the store does."""

    def __init__(self) -> None:
        self._kept: dict[Entity, tuple[float, list[float]]] = {}

    def sums(self, entity: Entity, now: float) -> list[float]:
        since, sums = self._kept.get(entity, (now, [0.0] * (2 * len(KINDS))))
        if now - since > kept_seconds(max(sums[len(KINDS) :])):
            return [0.0] * len(sums)
        return decayed(sums, now - since)

    def read(self, entity: Entity, now: float) -> Evidence:
        sums = self.sums(entity, now)
        return Evidence(
            short=dict(zip(KINDS, sums, strict=False)), long=dict(zip(KINDS, sums[len(KINDS) :], strict=True))
        )

    def learn(self, entity: Entity, kind: EvidenceKind, now: float) -> None:
        sums = self.sums(entity, now)
        place = KINDS.index(kind)
        sums[place] += 1
        sums[place + len(KINDS)] += 1
        self._kept[entity] = now, sums


# The mails


def mails_of(file: Path, provider_of: networks.Lookup | None) -> list[Mail]:
    """The mails of a file, in order of time."""
    with networks.text_of(file) as stream:
        found = [
            Mail(float(row["ts"]), row["label_spam"] == "1", tuple(_entities_of(row, provider_of)))
            for row in csv.DictReader(stream)
        ]
    return sorted(found, key=lambda mail: mail.seconds)


def _entities_of(row: Mapping[str, str], provider_of: networks.Lookup | None) -> Iterator[Entity]:
    mail_class = "list" if row["is_list"] == "1" else "direct"
    yield from _of_client(row["ip"], mail_class, provider_of)
    if row["envelope_domain"]:
        yield Entity("sender_domain", _organisation(row["envelope_domain"]))
        yield Entity("sender", escaped(canonical_domain(row["envelope_domain"])))
    if row["from_domain"]:
        yield Entity("author_domain", _organisation(row["from_domain"]))
        yield Entity("author", escaped(canonical_domain(row["from_domain"])))
        yield Entity("author_domain+class", f"{_organisation(row['from_domain'])},{mail_class}")
    if subject := subject_id(row["subject"], SUBJECT_KEY):
        yield Entity("subject", subject)


def _of_client(text: str, mail_class: str, provider_of: networks.Lookup | None) -> Iterator[Entity]:
    try:
        client = ip_address(text)
    except ValueError:
        return  # not every mail says where it came from
    if provider_of and isinstance(client, IPv4Address) and (number := provider_of(client)):
        yield Entity("asn", str(number))
    yield Entity("prefix", network_id(client, v4=24, v6=48))
    yield Entity("ip", network_id(client, v4=32, v6=64))
    yield Entity("ip+class", f"{network_id(client, v4=32, v6=64)},{mail_class}")


def _organisation(domain: str) -> str:
    return escaped(organisational_domain(canonical_domain(domain)))


def made_up(count: int) -> list[Mail]:
    """A small stream: every provider has its share of bad networks, and these of bad addresses; domains are shared."""
    random = Random("a small stream")
    providers = [random.betavariate(0.5, 0.8) for _ in range(30)]
    shares: dict[tuple[int, ...], float] = {}
    found = []
    for number in range(count):
        provider = random.randrange(len(providers))
        network, address = random.randrange(10), min(int(random.expovariate(0.2)), 200)
        of_network = shares.setdefault((provider, network), _near(random, providers[provider]))
        of_address = shares.setdefault((provider, network, address), _near(random, of_network))
        bad = random.random() < of_address
        domain = f"{('good', 'bad')[bad] if random.random() < 0.5 else 'any'}{random.randrange(400)}.example"
        row = {
            "ip": f"10.{provider}.{network}.{address}",
            "envelope_domain": domain,
            "from_domain": domain,
            "is_list": str(int(not bad and random.random() < 0.4)),
            "subject": "",
        }
        entities = _entities_of(row, lambda client: 64_512 + (int(client) >> 16 & 0xFF))
        found.append(Mail(1e9 + number * 1_800.0, bad, tuple(entities)))
    return found


def _near(random: Random, share: float) -> float:
    return random.betavariate(0.05 + 4 * share, 0.05 + 4 * (1 - share))


# The models

Model = Callable[[Known, float], float]
"""The score of a message out of what is known of its entities, and the base rate."""


def whole(known: Known, base: float) -> float:
    """The one that is promised."""
    return standing_of_message(known, base).score


def _only(dimensions: Sequence[str], score_of: Callable[[MessageStanding], float]) -> Model:
    def model(known: Known, base: float) -> float:
        some = {entity: evidence for entity, evidence in known.items() if entity.dimension in dimensions}
        return score_of(standing_of_message(some, base))

    return model


def _raw_ratio(known: Known, base: float) -> float:
    tally = next((Tally.of(known[entity].long) for entity in known if entity.dimension == "ip"), Tally(0, 0))
    return tally.bad / tally.total if tally.total else base


def _equal_weights(known: Known, base: float) -> float:
    parts = standing_of_message(known, base).parts.values()
    return standing.joined([(1.0, part.score) for part in parts], base)


EVERY = tuple(dimension for dimensions in LEVELS.values() for dimension in dimensions)
PLAINER: Mapping[str, Model] = {
    "raw_ratio": _raw_ratio,
    "flat_prior": _only(("ip",), lambda one: one.repeat_offender),
    "client_hierarchy": _only(CLIENT[:3], lambda one: one.repeat_offender),
    "client_two_horizons": _only(CLIENT[:3], lambda one: one.score),
    "client_and_sender": _only(CLIENT[:3] + SENDER, lambda one: one.score),
    "without_class": _only([name for name in EVERY if "+class" not in name], lambda one: one.score),
    "equal_weights": _equal_weights,
    "without_asn": _only([name for name in EVERY if name != "asn"], lambda one: one.score),
}
MODELS = {"": whole} | {f"_{name}": model for name, model in PLAINER.items()}


# The figures


@dataclass(frozen=True, slots=True)
class Scored:
    """The score of one mail, and what it was."""

    score: float
    bad: bool


def scored(mails: Sequence[Mail], models: Mapping[str, Model]) -> dict[str, list[Scored]]:
    """Every mail by every model, before it is learned."""
    memory, found = Memory(), defaultdict[str, list[Scored]](list)
    for mail in mails:
        known = {entity: memory.read(entity, mail.seconds) for entity in mail.entities}
        base = base_rate(memory.read(SITE, mail.seconds))
        for name, model in models.items():
            found[name].append(Scored(model(known, base), mail.bad))
        for entity in (SITE, *mail.entities):
            memory.learn(entity, EvidenceKind.SPAM if mail.bad else EvidenceKind.HAM, mail.seconds)
    return found


def _steps(some: Sequence[Scored]) -> Iterator[tuple[int, int]]:
    """(good, bad) of each score, the highest first."""
    ordered = sorted(some, key=lambda one: -one.score)
    for _, group in groupby(ordered, key=lambda one: one.score):
        kinds = [one.bad for one in group]
        yield len(kinds) - sum(kinds), sum(kinds)


def auc(some: Sequence[Scored]) -> float:
    """The share of pairs of a bad and a good mail in which the bad one has the higher score; ties are half."""
    pairs, bad_above, good_above = 0.0, 0, 0
    for good, bad in _steps(some):
        pairs += good * (bad_above + bad / 2)
        bad_above, good_above = bad_above + bad, good_above + good
    return pairs / (bad_above * good_above)


def caught(some: Sequence[Scored], false_positives: float) -> float:
    """The share of bad mail from some score on, where at most such a share of the good reaches that score."""
    all_bad = sum(one.bad for one in some)
    all_good = len(some) - all_bad
    best, bad_above, good_above = 0, 0, 0
    for good, bad in _steps(some):
        bad_above, good_above = bad_above + bad, good_above + good
        if good_above > false_positives * all_good:
            break
        best = bad_above
    return best / all_bad


def _add(report: Report, name: str, some: Sequence[Scored]) -> None:
    bad = sum(one.bad for one in some)
    said = f"of {len(some):,} mails, {bad:,} of them bad"
    for figure, value in (("auc", auc(some)), ("tpr_at_fpr_0_003", caught(some, FALSE_POSITIVES))):
        report.add(figure + name, value, said, PROMISED.get(figure + name))


def on_file(report: Report, file: Path, table: Path | None) -> None:
    """The figures of a file."""
    mails = mails_of(file, networks.opened(table) if table else None)
    known = sum(any(entity.dimension == "asn" for entity in mail.entities) for mail in mails)
    source = f"by {table.name}" if table else "no ASN data: apt-get install libloc-database, or --asn FILE"
    report.add("mails_with_asn", known, f"of {len(mails):,} mails, {source}")
    models = {name: model for name, model in MODELS.items() if table or name != "_without_asn"}
    warm, middle = (round(part * len(mails)) for part in (WARM_UP, CHOSEN_ON))
    found = scored(mails, models)
    for name, scores in found.items():
        _add(report, name, scores[warm:])
    _add(report, "_first_half", found[""][warm:middle])
    _add(report, "_last_half", found[""][middle:])


def on_made_up(report: Report) -> None:
    """The same on the stream that is made here."""
    mails = made_up(2_000)
    for name, scores in scored(mails, MODELS).items():
        _add(report, f"_made_up{name}", scores[round(WARM_UP * len(mails)) :])


def measure(report: Report, file: Path, table: Path | None) -> None:
    """The benchmark."""
    if report.quick:
        on_made_up(report)
    if file.exists():
        on_file(report, file, table)
        return
    said = f"not measured: {file} is not there, name another by --data FILE"
    for name, target in PROMISED.items():
        report.add(name, None, said, target)
    print(f"python -m benchmarks.reputation: {said}", file=sys.stderr)


def command() -> None:
    """Take the options of this benchmark, and leave the others to `main`."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reputation", add_help=False, allow_abbrev=False)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--asn", type=Path, default=networks.found())
    options, sys.argv[1:] = parser.parse_known_args()
    for file in filter(None, (options.data, options.asn)):
        if not file.is_file():
            parser.error(f"there is no file {file}")
    main("reputation", lambda report: measure(report, options.data or DATA, options.asn))


if __name__ == "__main__":
    command()
