"""What happens to reports when the store fails at the worst moment, and other deeds that must be exact."""

from collections.abc import Sequence

import pytest

from reputation.charges import Answer, Charge
from reputation.desk import acting
from reputation.desk.acting import learned, made_token, revoked
from reputation.desk.documents import NewToken, OutcomeReport
from reputation.engine import Engine
from reputation.errors import ConfigError, NothingThere, StoreUnavailable
from reputation.keys import Entity
from reputation.policy import Policy
from reputation.store.memory import MemoryStore

SPAM = OutcomeReport(kind="spam", client="192.0.2.7", sender="a@example.com", sender_proven=True, key="k")


class FailingStore(MemoryStore):
    """Fails to decide while `trouble` is set, or leaves a key out."""

    trouble = False
    misses = False

    async def decide(self, charges: Sequence[Charge], *, token: str = "", now_us: int | None = None) -> Answer:
        if self.trouble:
            raise StoreUnavailable("away")
        answer = await super().decide(charges, token=token, now_us=now_us)
        return answer._replace(missing=frozenset({0})) if self.misses else answer


@pytest.fixture
def store() -> FailingStore:
    return FailingStore()


@pytest.fixture
def engine(store: FailingStore) -> Engine:
    return Engine(policy=Policy(rules=()), store=store)


async def spam_of(engine: Engine, entity: str = "sender:a@example.com") -> int:
    dimension, _, id = entity.partition(":")
    rows = await engine.store.series(Entity(dimension, id))
    return max((row.count for row in rows if row.key.metric == "spam"), default=0)


async def test_what_was_not_counted_can_be_told_again(engine: Engine, store: FailingStore) -> None:
    store.trouble = True
    with pytest.raises(StoreUnavailable):
        await learned(engine, [SPAM], "mx")
    store.trouble = False
    (result,) = (await learned(engine, [SPAM], "mx")).results
    assert (result.status, await spam_of(engine)) == ("counted", 1)
    assert (await learned(engine, [SPAM], "mx")).results[0].status == "duplicate"


async def test_whoever_died_while_he_counted_leaves_no_lasting_claim(
    engine: Engine, store: FailingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acting, "COUNTING_SECONDS", 0.05)
    store.trouble = True
    with monkeypatch.context() as patched:
        patched.setattr(store, "drop", store.kept)  # it does not come to that any more
        with pytest.raises(StoreUnavailable):
            await learned(engine, [SPAM], "mx")
    store.trouble = False
    with pytest.raises(StoreUnavailable, match="being counted"):
        await learned(engine, [SPAM], "mx")
    while True:
        try:
            (result,) = (await learned(engine, [SPAM], "mx")).results
            break
        except StoreUnavailable:
            continue
    assert (result.status, await spam_of(engine)) == ("counted", 1)


async def test_half_of_a_report_is_told_as_such_and_not_counted_again(engine: Engine, store: FailingStore) -> None:
    store.misses = True
    assert (await learned(engine, [SPAM], "mx")).results[0].status == "partly"
    assert (await learned(engine, [SPAM], "mx")).results[0].status == "duplicate"


async def test_keys_are_of_whom_they_are(engine: Engine) -> None:
    for author in ("mx1", "mx2"):
        assert (await learned(engine, [SPAM], author)).results[0].status == "counted"
    assert await spam_of(engine) == 2


async def test_a_user_who_writes_another_name_does_not_get_that_one_blamed(engine: Engine) -> None:
    forged = OutcomeReport(kind="spam", user="alice", sender="ceo@victim.example")
    (result,) = (await learned(engine, [forged], "mx")).results
    assert result.entities == ("user:alice",)
    own = OutcomeReport(kind="spam", user="Alice@example.com", sender="alice@Example.com")
    (result,) = (await learned(engine, [own], "mx")).results
    assert "sender:alice@example.com" in result.entities


async def test_a_token_cannot_hide_behind_the_name_of_another(engine: Engine) -> None:
    bad = await made_token(engine, NewToken(name="bad", scopes=("admin",)), "root")
    with pytest.raises(ConfigError):
        await made_token(engine, NewToken(name=bad.row.token_id, scopes=("read",)), "bad")
    assert (await revoked(engine, bad.row.token_id, "root", "stolen")).name == "bad"
    with pytest.raises(NothingThere):
        await revoked(engine, "bad", "root", "again")
