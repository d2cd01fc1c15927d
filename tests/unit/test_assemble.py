"""From settings to an engine that judges; here with the store that needs no server."""

from pathlib import Path

import pytest

from reputation.assemble import open_engine, open_store, settings_of
from reputation.config import Settings, StoreSettings
from reputation.errors import ConfigError
from reputation.keys import Dimension, Entity, Metric
from reputation.rule_settings import RuleSettings
from reputation.store.memory import MemoryStore
from reputation.store.redis_store import RedisStore
from reputation.verdict import Action, Reason
from tests.builders import mail


def test_a_mistake_in_the_url_of_the_store_is_named_by_file_table_and_key(tmp_path: Path) -> None:
    file = tmp_path / "reputon.toml"
    file.write_text('[store]\nurl = "redis://me:s3cret@db/mail"\n')
    with pytest.raises(ConfigError) as caught:
        settings_of(file)
    assert str(caught.value).startswith(f"{file}: [store] url: a database is a number")
    assert "s3cret" not in str(caught.value)


async def test_an_engine_judges_by_the_rules_of_its_settings() -> None:
    one_an_hour = RuleSettings.model_validate(
        {
            "name": "one-an-hour",
            "stage": "mail",
            "key": [Dimension.SENDER],
            "count": Metric.MESSAGES,
            "limits": ["1/1h"],
            "action": "reject",
        }
    )
    settings = Settings(store=StoreSettings(url="memory:"), rule=(one_an_hour,))
    async with open_engine(settings) as engine:
        assert [(await engine.judge(mail())).action for _ in range(2)] == [Action.ACCEPT, Action.REJECT]


@pytest.mark.parametrize(
    ("url", "kind"),
    [("memory:", MemoryStore), ("redis://127.0.0.1:1", RedisStore), ("unix:///nowhere.sock", RedisStore)],
)
async def test_a_store_is_opened_by_its_url_and_not_asked_before_it_is_needed(url: str, kind: type) -> None:
    store = await open_store(StoreSettings(url=url))
    assert isinstance(store, kind)
    await store.close()


def test_a_mistake_in_a_filter_is_named(tmp_path: Path) -> None:
    file = configured(tmp_path, '[[filter]]\nurl = "clamd://127.0.0.1:3310"\n' * 2)
    with pytest.raises(ConfigError) as caught:
        settings_of(file)
    assert str(caught.value).startswith(f"{file}: filter url: ")


# Lists


def configured(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "reputon.toml"
    file.write_text(f'[store]\nurl = "memory:"\n{text}')
    return file


def test_lists_are_checked_with_the_settings_and_every_mistake_is_named(tmp_path: Path) -> None:
    (tmp_path / "vip.txt").write_text("example.com\n*.example.net  # all of them\n")
    file = configured(
        tmp_path,
        f"""
[[list]]
name = "vip"
of = "sender_domain"
values = ["example.org", "@example.org"]
file = "{tmp_path}/vip.txt"

[[list]]
name = "other"
of = "ip"
file = "{tmp_path}/none.txt"

[[list]]
name = "nothing"
of = "ip"

[[list]]
name = "partners"
of = "ip"
redis_set = "partners"
""",
    )
    with pytest.raises(ConfigError) as caught:
        settings_of(file)
    instead = 'write "example.{}", which stands for all names below it, too'
    assert str(caught.value).splitlines() == [
        f'{file}: [[list]] "nothing": say what is on it: values, file or redis_set',
        f'{file}: [[list]] "partners" redis_set: the store "memory:" has no sets',
        f'{file}: [[list]] "vip" values, item 2: "@example.org": {instead.format("org")}',
        f'{file}: [[list]] "vip" file: {tmp_path}/vip.txt:2: "*.example.net": {instead.format("net")}',
        f'{file}: [[list]] "other" file: {tmp_path}/none.txt: cannot be read: No such file or directory',
    ]


def test_not_more_than_twenty_mistakes_are_shown_and_a_source_of_mistakes_is_not_read_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reputation.list_lines.MAX_MISTAKES", 30)
    (tmp_path / "vip.txt").write_text("nonsense\n" * 50)
    file = configured(tmp_path, f'[[list]]\nname = "vip"\nof = "ip"\nfile = "{tmp_path}/vip.txt"\n')
    with pytest.raises(ConfigError) as caught:
        settings_of(file)
    lines = str(caught.value).splitlines()
    assert (len(lines), lines[-1]) == (21, f"{file}: and 10 more")


def test_all_lists_together_have_at_most_so_many_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reputation.list_files.MAX_VALUES", 3)
    tables = [f'[[list]]\nname = "l{n}"\nof = "ip"\nvalues = ["192.0.2.1", "192.0.2.2"]\n' for n in range(2)]
    assert len(settings_of(configured(tmp_path, tables[0])).list_) == 1
    with pytest.raises(ConfigError, match=r'"l1" values, item 2: here is one value too many'):
        settings_of(configured(tmp_path, "".join(tables)))


@pytest.mark.parametrize("serving", [True, False])
async def test_an_engine_has_the_lists_of_its_settings(tmp_path: Path, serving: bool) -> None:
    (tmp_path / "block.txt").write_text("sender:alice@example.com  # spam run\n")
    text = f'[[list]]\nname = "block"\nof = "ip"\nfile = "{tmp_path}/block.txt"\n'
    settings = settings_of(configured(tmp_path, text))
    async with open_engine(settings, serving=serving) as engine:
        verdict = await engine.judge(mail("Alice@example.com"))
        explanation = await engine.explain(Entity("sender", "alice@example.com"))
    assert (verdict.reason, verdict.entry) == (Reason.BLOCKLISTED, "list|block|sender:alice@example.com")
    (entry,) = explanation.entries
    assert (entry.author[-10:], entry.reason) == ("/block.txt", "spam run")
