"""Values as they are written: nothing hides in them, nothing changes what is around them, addresses come back whole."""

from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from api.console import notices
from api.console.asking import Asked
from api.console.charts import Layer, Limit, bars, meter, scale
from api.console.pages.search import guesses
from api.console.wording import cut, moment, place, plainly, relative, visible
from reputation.desk.documents import Bucket
from reputation.errors import ConfigError
from tests.browser.fake_desk import HOSTILE

ANY = st.text(st.characters(), max_size=60)


@given(ANY)
def test_whatever_is_shown_can_be_seen(text: str) -> None:
    assert plainly(text).isprintable()
    shown = Markup(visible(text)).striptags()
    assert shown.isprintable()


@given(ANY)
def test_no_value_is_markup(text: str) -> None:
    html = str(visible(text))
    inside = html.removeprefix("<bdi>").removesuffix("</bdi>")
    assert "<" not in inside.replace('<span class="odd" title="', "").replace("</span>", "")


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60))
def test_a_name_comes_back_out_of_an_address_as_it_went_in(name: str) -> None:
    url = place("entity", of=f"helo:{name}")
    assert url.isascii()
    assert Asked(urlsplit(url).query).text("of") == f"helo:{name}".strip()
    assert parse_qs(urlsplit(url).query)["of"] == [f"helo:{name}"]


def test_octets_that_are_no_text_come_back_as_they_were() -> None:
    assert Asked(urlsplit(place("entity", of="helo:\udcff")).query).text("of") == "helo:\udcff"


def test_long_values_are_cut_in_the_middle_and_say_so() -> None:
    shown = cut("x" * 4_096 + "@example.com", 100)
    assert shown.endswith("@example.com (4,108 characters)")
    assert len(shown) < 130


def test_letters_do_not_grow_over_the_lines_around() -> None:
    assert plainly("z" + "\u0300" * 9).count("\u0300") == 2


@pytest.mark.parametrize("value", HOSTILE)
def test_what_strangers_send_is_harmless_and_readable(value: str) -> None:
    html = str(visible(value))
    assert "<script" not in html
    assert "<img" not in html
    assert "<svg" not in html
    assert not set(html) & set("\x00\x1b\x07\r\n\u202e\u2067\u2028")
    html.encode("utf-8")


@pytest.mark.parametrize(
    "text",
    [
        "https://evil.example/",
        "//evil.example/console/",
        "/console/\\evil.example",
        "/console/ x",
        "/console/\r\nset-cookie: a=b",
        "/v1/top",
        "javascript:alert(1)",
        "/console",
        "/console/é",
    ],
)
def test_nobody_is_sent_elsewhere(text: str) -> None:
    form = Asked(f"next={urlsplit(place('x', of=text)).query.removeprefix('of=')}")
    assert form.text("next") == text.strip()
    assert form.place("next", "/console/") == "/console/"


def test_a_page_of_the_console_is_gone_back_to() -> None:
    assert Asked("back=/console/top%3Fn%3D20%26at%3D3").place("back", "") == "/console/top?n=20&at=3"


def test_fields_are_bounded() -> None:
    with pytest.raises(ConfigError, match="fields"):
        Asked("&".join("a=1" for _ in range(1_000)))
    assert Asked("n=1e400&m=nan").number("n") is None
    assert Asked("n=99999999").count("n", 20, 1_000) == 1_000


@pytest.mark.parametrize(
    "text", ["<b>", "banned.1", "forgotten", "forgotten.1.x", "forgotten.1.\u0661", "released.-1", ""]
)
def test_a_notice_is_never_free_text(text: str) -> None:
    assert notices.of_text(text) is None


def test_notices_tell_numbers() -> None:
    notice = notices.of_text(notices.coded("forgotten", 1_200, 3))
    assert notice is not None
    assert notice.text == "Forgotten: 1,200 counters and 3 verdicts erased."


def test_times_are_told_whatever_they_are() -> None:
    assert moment(-5) == "1970-01-01 00:00:00"
    assert moment(1e300) == "9999-12-31 23:59:59"
    assert relative(1_000, 400) == "in 10 min"


# Charts

BUCKETS = tuple(Bucket(start=300.0 * at, count=at * 10) for at in range(6))


def test_a_chart_says_what_it_draws() -> None:
    chart = bars([Layer(name="messages", style="is-count", buckets=BUCKETS)], "messages, 1h", unit="messages")
    assert chart is not None
    assert chart.summary == "messages, 1h: 150 messages since 00:00 UTC, the most, 50, at 00:25."
    assert chart.rows[-1] == (1500.0, (50,))
    assert chart.svg.count("<rect") == 5  # nothing is drawn for nothing
    assert "style=" not in chart.svg


def test_a_limit_is_drawn_where_it_is_near() -> None:
    layer = Layer(name="messages", style="is-count", buckets=BUCKETS)
    near = bars([layer], "m", unit="m", limit=Limit(text="60/1h", count=60))
    far = bars([layer], "m", unit="m", limit=Limit(text="6000/1h", count=6_000))
    assert near is not None
    assert far is not None
    assert 'class="limit"' in near.svg
    assert 'class="limit"' not in far.svg


def test_nothing_is_no_chart() -> None:
    assert bars([], "m", unit="m") is None
    empty = bars([Layer(name="m", style="is-count", buckets=(Bucket(start=0, count=0),))], "m", unit="m")
    assert empty is not None
    assert empty.summary == "m: none since 00:00 UTC."


def test_names_in_charts_are_escaped() -> None:
    chart = bars([Layer(name='"><script>', style="is-count", buckets=BUCKETS)], '"><script>', unit='"><script>')
    assert chart is not None
    assert "<script" not in chart.svg
    assert "<script" not in meter(0.5, "is-count", '"><script>')


@given(st.integers(0, 10**15))
def test_the_axis_is_higher_than_what_it_measures(highest: int) -> None:
    assert highest <= scale(highest) <= max(highest * 2.5, 4)


# Search


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("alice@example.com", "sender:alice@example.com"),
        ("[192.0.2.7]", "ip:192.0.2.7"),
        ("2001:db8::1", "ip:2001:db8::1"),
        ("192.0.2.0/24", "prefix:192.0.2.0/24"),
        ("AS64500", "asn:64500"),
        ("nl", "country:nl"),
        ("bob", "user:bob"),
        ("Alice <alice@example.com>", "sender:alice@example.com"),
    ],
)
def test_what_is_typed_is_guessed(text: str, first: str) -> None:
    assert guesses(text)[0] == first


def test_a_domain_may_be_many_things() -> None:
    assert {"sender_domain:example.com", "helo:example.com", "dkim_domain:example.com"} <= set(guesses("example.com"))
