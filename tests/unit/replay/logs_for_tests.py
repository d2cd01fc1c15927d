"""Short ways to write logs, and to read them as the commands do."""

import asyncio
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from reputation.keys import Entity
from reputation.policy import Policy
from reputation.replay.clients import LOOPBACK
from reputation.replay.dates import Calendar
from reputation.replay.figures import Figures
from reputation.replay.flow import Flow
from reputation.replay.reading import Reading, record_of
from reputation.replay.records import Record
from reputation.replay.running import Replay
from reputation.replay.steps import Timed
from reputation.rules import Rule
from reputation.spelling import Spelling
from reputation.windows import MICROSECONDS

NEWEST = datetime(2026, 11, 25, tzinfo=UTC)
NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


def us(hour: int, minute: int = 0, second: float = 0) -> int:
    """A moment of the 24th of November 2026, UTC."""
    return round((NOON.replace(hour=hour, minute=minute).timestamp() + second) * MICROSECONDS)


def record(line: str) -> Record | None:
    """What a line says, by a calendar of UTC."""
    return record_of(line, Calendar(NEWEST, UTC))


def records(lines: Iterable[str]) -> list[Record]:
    calendar = Calendar(NEWEST, UTC)
    return [found for line in lines if (found := record_of(line, calendar)) is not None]


def steps(lines: Iterable[str], skip: Sequence[object] = LOOPBACK) -> list[Timed]:
    return list(Flow(skip).steps(records(lines)))  # type: ignore[arg-type]  # networks of either family


def replayed(
    lines: Iterable[str], *rules: Rule, known_bad: Sequence[Entity] = (), watched: Sequence[Entity] = ()
) -> Figures:
    """The figures of rules over lines."""
    flow = Flow()
    replay = Replay(Policy(rules=rules), Spelling(), known_bad=known_bad, watched=watched)

    async def run() -> None:
        for timed in flow.steps(records(lines)):
            await replay.take(timed)

    asyncio.run(run())
    return replay.close(connections=flow.connections, disconnects=flow.disconnects)


def read(path: Path) -> tuple[list[Record], Reading]:
    reading = Reading([path], zone=UTC)
    return list(reading.records()), reading


class PostfixLog:
    """Lines as Postfix writes them, one message after another, and what it knew of them itself."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._id = 0x4F1A2B0
        self._pid = 100

    def connect(self, seconds: float, client: str = "192.0.2.7") -> int:
        """A connection; gives the process that has it."""
        self._pid += 1
        self.write(seconds, f"smtpd[{self._pid}]", f"connect from mail.example.com[{client}]")
        return self._pid

    def disconnect(self, seconds: float, pid: int, client: str = "192.0.2.7") -> None:
        self.write(seconds, f"smtpd[{pid}]", f"disconnect from mail.example.com[{client}] ehlo=1 quit=1 commands=2")

    def message(
        self,
        seconds: float,
        sender: str,
        *recipients: str,
        client: str = "192.0.2.7",
        user: str = "",
        unknown: Sequence[str] = (),
        status: str = "sent",
        pid: int = 0,
    ) -> None:
        """One message, from its connection (if it has none yet) to its end."""
        own = not pid
        pid = pid or self.connect(seconds, client)
        self._id += 1
        id, smtpd = f"{self._id:X}", f"smtpd[{pid}]"
        where = f"mail.example.com[{client}]"
        for address in unknown:
            self.refuse(seconds, pid, sender, address, client)
        login = f", sasl_method=PLAIN, sasl_username={user}" if user else ""
        self.write(seconds, smtpd, f"{id}: client={where}{login}")
        self.write(seconds, "cleanup[9]", f"{id}: message-id=<1@example.com>")
        self.write(seconds, "qmgr[9]", f"{id}: from=<{sender}>, size=305, nrcpt={len(recipients)} (queue active)")
        if own:
            self.disconnect(seconds, pid, client)
        dsn = {"sent": "2.0.0", "bounced": "5.1.1", "deferred": "4.4.1"}[status]
        for recipient in recipients:
            text = f"{id}: to=<{recipient}>, relay=mx.example.net[198.51.100.1]:25, delay=1, delays=0/0/0/1, dsn={dsn}"
            self.write(seconds + 1, "smtp[8]", f"{text}, status={status} (250 2.0.0 Ok)")
        if status != "deferred":
            self.write(seconds + 1, "qmgr[9]", f"{id}: removed")

    def refuse(self, seconds: float, pid: int, sender: str, recipient: str, client: str = "192.0.2.7") -> None:
        """A recipient that does not exist."""
        why = f"550 5.1.1 <{recipient}>: Recipient address rejected: User unknown in virtual mailbox table"
        envelope = f"from=<{sender}> to=<{recipient}> proto=ESMTP helo=<mail.example.com>"
        where = f"mail.example.com[{client}]"
        self.write(seconds, f"smtpd[{pid}]", f"NOQUEUE: reject: RCPT from {where}: {why}; {envelope}")

    def write(self, seconds: float, daemon: str, text: str) -> None:
        at = datetime.fromtimestamp(NOON.timestamp() + seconds, UTC)
        self.lines.append(f"{at:%b} {at.day:2} {at:%H:%M:%S} mx postfix/{daemon}: {text}")
