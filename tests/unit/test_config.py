"""The configuration file: what is read, what is refused and how, what is never shown."""

import re
import tomllib
from itertools import product
from pathlib import Path

import pytest

from reputation.charges import Charging
from reputation.config import ListSettings, PythonSettings, Settings, effective, without_password
from reputation.config_files import load
from reputation.errors import ConfigError
from reputation.events import Stage
from reputation.front_end_settings import AuthSettings, FilterSettings, TlsSettings
from reputation.keys import Dimension, Metric
from reputation.rule_settings import RuleSettings
from reputation.rules import Mode, OnStoreFailure
from reputation.verdict import Action
from reputation.windows import Limit

RULE = """
[[rule]]
name   = "sender-hour"
stage  = "mail"
key    = ["sender"]
count  = "messages"
limits = ["30/1m", "100/1h"]
action = "tempfail"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "reputon.toml"


def read(file: Path, text: str) -> Settings:
    file.write_text(text, encoding="utf-8")
    return load(file)


def mistakes(file: Path, text: str) -> str:
    """What is said about a file that is wrong; one line per mistake, each of which names the file."""
    with pytest.raises(ConfigError) as caught:
        read(file, text)
    lines = str(caught.value).splitlines()
    assert all(line.startswith(f"{file}: ") for line in lines)
    return "\n".join(line.removeprefix(f"{file}: ") for line in lines)


def test_an_empty_file_means_the_defaults(file: Path) -> None:
    settings = read(file, "")
    assert settings == Settings()
    assert settings.policy().rules == ()


def test_every_table_can_be_set(file: Path) -> None:
    settings = read(
        file,
        """
        [store]
        url = "redis://localhost:6379/1"
        prefix = "site-2"
        deadline_seconds = 1
        [keys]
        subaddress_separator = ""
        subject_key = "s3cret"
        tracked = ["ip", "user"]
        [smtp]
        listen = ["127.0.0.1:25", "[::1]:25"]
        hostname = "mx.example.com"
        next_hop = "lmtp:///run/lmtp.sock"
        [smtp.tls]
        certificate = "cert.pem"
        key = "key.pem"
        [log]
        level = "debug"
        """,
    )
    assert settings.store.deadline_seconds == 1.0
    assert settings.spelling().subject_key == b"s3cret"
    assert settings.policy().tracked == {Dimension.IP, Dimension.USER}
    assert settings.smtp.listen == ("127.0.0.1:25", "[::1]:25")
    assert settings.smtp.tls is not None


def test_a_rule_becomes_the_engine_s_rule(file: Path) -> None:
    more = 'mode = "shadow"\ncharge = "always"\non_store_failure = "tempfail"\nreply = "4.7.1 Wait {retry_after} s"\n'
    [rule] = read(file, RULE + more).policy().rules
    assert (rule.name, rule.stage, rule.key, rule.count) == (
        "sender-hour",
        Stage.MAIL,
        (Dimension.SENDER,),
        Metric.MESSAGES,
    )
    assert rule.limits == (Limit.parse("30/1m"), Limit.parse("100/1h"))
    assert (rule.action, rule.mode, rule.charge) == (Action.TEMPFAIL, Mode.SHADOW, Charging.ALWAYS)
    assert (rule.on_store_failure, rule.reply) == (OnStoreFailure.TEMPFAIL, "4.7.1 Wait {retry_after} s")


# --- mistakes


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[stroe]\n", "[stroe]: unknown table"),
        ("[[stroe]]\n", "[[stroe]]: unknown table"),
        ("[smtp.tsl]\n", "[smtp.tsl]: unknown table"),
        ("stroe = 1\n", "stroe: unknown key"),
        ("store = 1\n", "store: this is a table: write its keys under its name in brackets"),
        ("[smtp]\ntls = 1\n", "[smtp] tls: this is a table"),
        ("[rule]\n", "[[rule]]: write the name of each rule's table in two brackets"),
        ("rule = [1]\n", "[[rule]] 1: this is a table"),
        ("[list]\n", "[[list]]: write the name of each list's table in two brackets"),
        ("[python]\n", "[[python]]: write the name of each policy's table in two brackets"),
        ('[[list]]\nname = "vip"\n', '[[list]] "vip" of: is required'),
        ('[[list]]\nname = "vip"\nof = "ip"\nvalues = [1]\n', '[[list]] "vip" values, item 1: write text'),
        ('[[list]]\nname = "vip"\nof = "ip"\ncolour = 1\n', '[[list]] "vip" colour: unknown key'),
        ("[[python]]\n", "[[python]] 1 file: is required"),
        ("change = 1\n", "change: this is a table: write its keys under its name in brackets"),
        ("[change]\nrule = 1\n", "[change] rule: this is a table: write its keys under its name in brackets"),
        ('[store]\nulr = "memory:"\n', "[store] ulr: unknown key"),
        ("[store]\ndeadline_seconds = 0\n", "[store] deadline_seconds: write a number above 0"),
        ('[store]\ndeadline_seconds = "1"\n', "[store] deadline_seconds: write a number"),
        ("[store]\ndeadline_seconds = 60.5\n", "[store] deadline_seconds: write 60 or less"),
        ('[store]\nurl = "mysql://db"\n', "[store] url: unknown kind of store"),
        ('[store]\nurl = "embedded:"\n', "[store] url: an embedded store needs a directory"),
        ('[store]\nprefix = "a{b}"\n', '[store] prefix: write 1 to 32 letters, digits, "_", "." or "-"'),
        ('[smtp]\nlisten = ["25"]\n', '[smtp] listen, item 1: "25" is not HOST:PORT'),
        ('[smtp]\nlisten = ["127.0.0.1:99999"]\n', '[smtp] listen, item 1: "127.0.0.1:99999" is not HOST:PORT'),
        ("[smtp]\nlisten = []\n", "[smtp] listen: name at least 1"),
        ("[smtp]\nmax_sessions = 1.5\n", "[smtp] max_sessions: write a whole number"),
        ("[smtp]\nmax_sessions = 0\n", "[smtp] max_sessions: write 1 or more"),
        ('[smtp]\nhostname = "a b"\n', "[smtp] hostname: write the full name of a host"),
        ('[register]\nnever_ban = "::1"\n', "[register] never_ban: write a list, in brackets: [...]"),
        ("[register]\nnever_ban = [1]\n", '[register] never_ban, item 1: write text, in quotes: "..."'),
        ('[keys]\nsubaddress_separator = "++"\n', "[keys] subaddress_separator: is too long: at most 1"),
        ('[smtp]\nnext_hop = "mx"\n', "[smtp] next_hop: unknown kind of next hop"),
        ("[smtp.tls]\n", "[smtp.tls] certificate: is required"),
        ('[log]\nlevel = "loud"\n', '[log] level: write one of "debug", "info"'),
        ('[keys]\ntracked = ["planet"]\n', '[keys] tracked, item 1: write one of "ip"'),
    ],
)
def test_a_mistake_is_named_by_file_table_and_key(file: Path, text: str, said: str) -> None:
    assert said in mistakes(file, text)


@pytest.mark.parametrize(
    "url",
    [
        "redis:6379",
        "redis:///0",
        "redis://h:port",
        "redis://h:99999",
        "rediss:",
        "unix:/x",
        "redis://u:a/b@h",
        "redis://u:a℀b@h",
        "redis://u:a[b]c@h",
    ],
)
def test_a_store_url_that_reaches_no_server_is_refused_without_repeating_it(file: Path, url: str) -> None:
    said = mistakes(file, f'[store]\nurl = "{url}"\n')
    assert said.startswith("[store] url: no server can be reached at this URL: write redis://")
    assert url not in said


@pytest.mark.parametrize(
    ("instead", "said"),
    [
        ('name   = "Sender Hour"', "name: write lower-case words with hyphens"),
        ('stage  = "lunch"', 'stage: write one of "connect"'),
        ("key    = []", "key: name at least one dimension"),
        ('key    = ["sender", "sender"]', "key: name at least one dimension, and none twice"),
        ('key    = ["planet"]', 'key, item 1: write one of "ip"'),
        ('key    = ["subject"]', "key: subject is not known at stage mail"),
        ('count  = "bytes"', "count: bytes cannot be counted at stage mail"),
        ("limits = [2]", 'limits, item 1: write text, in quotes: "..."'),
        ('limits = "9/1h"', "limits: write a list, in brackets: [...]"),
        ('limits = ["lots"]', 'limits: "lots" is not a limit: write COUNT/TIME'),
        ('limits = ["0/1h"]', "limits: a limit of 0 admits nothing or anything"),
        ('limits = ["5/1h", "9/60m"]', "limits: name at least one limit, and each window once"),
        ('action = "explode"', 'action: write one of "accept"'),
    ],
)
def test_a_mistake_in_a_rule_is_named_by_rule_and_key(file: Path, instead: str, said: str) -> None:
    key = instead.split(maxsplit=1)[0]
    lines = [instead if line.startswith(key) else line for line in RULE.splitlines()]
    name = "Sender Hour" if key == "name" else "sender-hour"
    assert mistakes(file, "\n".join(lines)).startswith(f'[[rule]] "{name}" {said}')


def test_a_rule_on_subjects_needs_their_key(file: Path) -> None:
    text = RULE.replace('stage  = "mail"', 'stage  = "data"').replace('key    = ["sender"]', 'key    = ["subject"]')
    assert "subject" in text and '"data"' in text
    assert "key: counting subjects needs keys.subject_key" in mistakes(file, text)


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        ("Wait {minutes}", "unknown ['minutes']; known: count, entity"),
        ("Wait {", "Single '{' encountered"),
        ("Wait {}", "unknown ['']"),
        ("Wait {entity.id}", "unknown ['entity.id']"),
        ("Wait {entity:>20}", "nothing but a name stands between braces"),
        ("Wait {entity!r}", "nothing but a name stands between braces"),
        ("Grüße", "only printable ASCII"),
        ("two\\nlines", "only printable ASCII"),
        ("550 No", "action tempfail needs a code that begins with 4, not 550"),
        ("450 5.7.1 No", "action tempfail needs a code that begins with 4, not 5"),
        ("x" * 301, "is too long: at most 300"),
    ],
)
def test_a_reply_that_could_not_be_sent_is_refused(file: Path, reply: str, said: str) -> None:
    assert f'[[rule]] "sender-hour" reply: {said}' in mistakes(file, f'{RULE}reply = "{reply}"\n')


def test_a_reply_for_an_action_that_sends_none_is_refused(file: Path) -> None:
    text = RULE.replace("tempfail", "discard") + 'reply = "Gone"\n'
    assert "reply: action discard sends no reply of its own" in mistakes(file, text)


def test_an_unknown_key_of_a_rule_without_a_name_is_named_by_its_number(file: Path) -> None:
    said = mistakes(file, "[[rule]]\nnmae = 1\n")
    assert "[[rule]] 1 nmae: unknown key" in said
    assert "[[rule]] 1 name: is required" in said


def test_all_mistakes_are_told_at_once(file: Path) -> None:
    said = mistakes(file, "[store]\nulr = 1\n[log]\nlevel = 1\n" + RULE.replace("mail", "lunch"))
    assert len(said.splitlines()) == 3


def test_a_list_of_nothing_but_mistakes_is_not_called_empty_besides(file: Path) -> None:
    said = mistakes(file, RULE.replace('["30/1m", "100/1h"]', "[1, 2]")).splitlines()
    assert [line.partition(": ")[0] for line in said] == [
        '[[rule]] "sender-hour" limits, item 1',
        '[[rule]] "sender-hour" limits, item 2',
    ]


def test_no_mistake_is_told_in_the_words_of_a_library(file: Path) -> None:
    values = ("1", "-1", "1e99", "nan", "[]", "[1]", '["x"]', '""', '"x y"', "true", "{}", "[{}]", "1979-05-27")
    tables = {f"[{name}]": field.annotation for name, field in Settings.model_fields.items() if name != "rule"}
    tables |= {"[smtp.tls]": TlsSettings, "[smtp.auth]": AuthSettings, "[[rule]]": RuleSettings}
    tables |= {"[[list]]": ListSettings, "[[python]]": PythonSettings, "[[filter]]": FilterSettings}
    for table, model in tables.items():
        for name, value in product(getattr(model, "model_fields", ()), values):
            file.write_text(f"{table.replace('_table', '')}\n{name} = {value}\n", encoding="utf-8")
            try:
                load(file)
            except ConfigError as error:
                assert not re.search(r"Input|should|Field|\bvalid", str(error).replace(str(file), ""))


def test_two_rules_of_one_name_are_refused(file: Path) -> None:
    assert mistakes(file, RULE + RULE).startswith("rule names must differ")


def test_what_is_no_toml_no_text_or_not_there_is_refused(file: Path) -> None:
    assert mistakes(file, "[store\n").startswith("is not valid TOML")
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="is not UTF-8 text"):
        load(file)
    file.unlink()
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        load(file)


# --- secrets


def test_the_effective_configuration_shows_defaults_and_no_secrets(file: Path) -> None:
    settings = read(file, '[store]\nurl = "redis://app:s3cret@db/0"\n[keys]\nsubject_key = "s3cret"\n' + RULE)
    shown = effective(settings)
    assert shown["store"] == {"url": "redis://app:***@db/0", "prefix": "rp", "deadline_seconds": 0.05}
    assert shown["rule"][0]["mode"] == "enforce"
    assert shown["rule"][0]["limits"] == ["30/1m", "100/1h"]
    assert "s3cret" not in str(shown)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://app:s3cret@db:6379/0", "redis://app:***@db:6379/0"),
        ("rediss://:s3cret@db", "rediss://:***@db"),
        ("redis://app:s3/cr@et@db", "redis://app:***@db"),
        ("redis://db/0?password=s3cret&db=2", "redis://db/0?password=***&db=2"),
        ("unix:///run/valkey.sock?username=a&password=s3cret", "unix:///run/valkey.sock?username=a&password=***"),
        ("redis://db:6379/0", "redis://db:6379/0"),
        ("unix:///run/valkey.sock", "unix:///run/valkey.sock"),
        ("embedded:./data/valkey", "embedded:./data/valkey"),
        ("memory:", "memory:"),
    ],
)
def test_a_url_is_shown_without_its_password(url: str, shown: str) -> None:
    assert without_password(url) == shown


def test_a_mistake_does_not_print_what_was_written(file: Path) -> None:
    assert "s3cret" not in mistakes(file, '[store]\nurl = "reddis://app:s3cret@db"\n[keys]\nsubject_key = ["s3cret"]\n')


# --- rules as they are written


ABOUT = """
[[rule]]
name   = "odd"
stage  = "mail"
when   = 'class == "bounce"'
"""


def test_a_rule_may_have_a_condition_and_no_limits(file: Path) -> None:
    [rule] = read(file, ABOUT + 'action = "accept"\nservice = "dirty"\n').policy().rules
    assert (rule.key, rule.count, rule.limits, rule.limited) == ((), "", (), False)
    assert (rule.service, rule.hold_seconds, rule.adaptive) == ("dirty", 0.0, 1.0)


def test_a_rule_may_hold_and_follow_reputation(file: Path) -> None:
    [rule] = read(file, RULE.replace('"sender"', '"ip"') + "hold_seconds = 3600\nadaptive = 3\n").policy().rules
    assert (rule.hold_seconds, rule.adaptive) == (3_600.0, 3.0)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            ABOUT.partition("when")[0] + 'action = "reject"\n',
            "limits: a rule needs key, count and limits, or a condition",
        ),
        (ABOUT + 'action = "throttle"\n', "action: throttle waits until there is room, so it needs limits"),
        (ABOUT + 'action = "reject"\nreply = "550 {entity}"\n', "reply: unknown ['entity']; known: reason, rule"),
        (
            ABOUT + 'action = "reject"\nservice = "dirty"\n',
            "service: reject lets nothing pass; use accept, tag or tarpit",
        ),
        (ABOUT + 'action = "tag"\nservice = "Very dirty"\n', "service: write a lower-case word, such as dirty"),
        (ABOUT + 'action = "reject"\nhold_seconds = 60\n', "hold_seconds: only for limits whose action is"),
        (ABOUT + 'action = "reject"\nkey = ["ip"]\n', "count: say what is counted, such as messages"),
        (ABOUT + 'action = "reject"\nlimits = ["5/1h"]\n', "key: name at least one dimension"),
        (ABOUT + 'action = "reject"\ncount = "messages"\n', "key: name at least one dimension"),
        (ABOUT + 'action = "reject"\nadaptive = 3\n', "adaptive: only for a key of one of asn, prefix, ip, user"),
        (RULE + "hold_seconds = -1\n", "hold_seconds: write 0 or more"),
        (RULE + "hold_seconds = 99999999\n", "hold_seconds: write 31622400 or less"),
        (RULE + "adaptive = 0.5\n", "adaptive: write 1 or more"),
        (RULE + "adaptive = 11\n", "adaptive: write 10 or less"),
        (RULE.replace('["sender"]', '["sender", "ip"]') + "adaptive = 3\n", "adaptive: only for a key of one of"),
        (RULE.replace('["sender"]', '["helo"]') + "adaptive = 3\n", "adaptive: only for a key of one of"),
    ],
)
def test_what_a_rule_cannot_be_is_said(file: Path, text: str, said: str) -> None:
    name = "odd" if text.startswith(ABOUT[:25]) else "sender-hour"
    assert mistakes(file, text).startswith(f'[[rule]] "{name}" {said}')


@pytest.mark.parametrize("key", ["sender", "sender_domain", "helo"])
def test_no_rule_bans_for_what_anybody_can_write(key: str) -> None:
    rule = f"""
        [[rule]]
        name = "hold"
        stage = "mail"
        key = ["{key}"]
        count = "messages"
        limits = ["3/1h"]
        action = "tempfail"
        hold_seconds = 86400
    """
    with pytest.raises(ConfigError, match="hold_seconds"):
        Settings.model_validate(tomllib.loads(rule)).policy()
