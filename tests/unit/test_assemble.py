"""From settings to an engine that judges; here with the store that needs no server."""

from pathlib import Path

import pytest

from reputation.assemble import open_engine, open_store, settings_of
from reputation.config import RuleSettings, Settings, StoreSettings
from reputation.errors import ConfigError
from reputation.keys import Dimension, Metric
from reputation.store.memory import MemoryStore
from reputation.store.redis_store import RedisStore
from reputation.verdict import Action
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
