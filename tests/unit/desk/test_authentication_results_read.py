"""Authentication-Results (RFC 8601): what a stranger has chosen in it proves nothing."""

import time

import pytest

from reputation.desk.authentication_results_read import passed

VICTIM = "victim.example"


@pytest.mark.parametrize(
    ("results", "expected"),
    [
        ("dkim=pass header.d=victim.example", [("dkim", VICTIM)]),
        ("dkim=pass header.i=alice@victim.example", [("dkim", VICTIM)]),
        ("dkim=pass header.i=@victim.example", [("dkim", VICTIM)]),
        ("DKIM/1 = (really) Pass (2048 (bit)) header.d = victim.example header.b=aGk/+==", [("dkim", VICTIM)]),
        ("dkim/1=pass (2048 (bit)) header.d = victim.example header.b=aGk/+==", [("dkim", VICTIM)]),
        ('dkim=pass reason="all; is (well" header.d=victim.example', [("dkim", VICTIM)]),
        ("dkim=pass header.i=a@mail.victim.example header.d=victim.example", [("dkim", VICTIM)]),
        ("spf=pass smtp.mailfrom=prvs=7=a@victim.example", [("spf", VICTIM)]),
        ('spf=pass smtp.mailfrom="a@victim.example"', [("spf", VICTIM)]),
        ("spf=pass smtp.mailfrom=<a@victim.example>", [("spf", VICTIM)]),
        ("dmarc=pass action=none header.from=victim.example; spf=none", [("dmarc", VICTIM)]),
        (
            "spf=pass smtp.mailfrom=a.example; dkim=pass header.d=b.example",
            [("spf", "a.example"), ("dkim", "b.example")],
        ),
    ],
)
def test_what_is_told_by_the_grammar_is_proven(results: str, expected: list[tuple[str, str]]) -> None:
    assert list(passed(f"mx.example 1; {results}")) == expected
    assert list(passed(results)) == expected, "some leave the authserv-id out"


@pytest.mark.parametrize(
    "results",
    [
        "dkim=pass header.i=victim.example@evil.example",
        'dkim=pass header.i="victim.example x"@evil.example',
        'dkim=pass header.i="x@victim.example"@evil.example',
        r'dkim=pass header.i="\"@victim.example"@evil.example',
        'spf=pass smtp.mailfrom="; dmarc=pass header.from=victim.example"@evil.example',
        r'spf=pass smtp.mailfrom="\"; dmarc=pass header.from=victim.example; x=\""@evil.example',
        'spf=pass (of "x) ; dmarc=pass header.from=victim.example ("@evil.example) smtp.mailfrom=evil.example',
        'dkim=fail reason="dkim=pass header.d=victim.example"',
        "dkim=fail (x; dkim=pass) header.d=victim.example",
        "dkim=fail ((x); dkim=pass header.d=victim.example)",
        "dkim=pass (header.d=victim.example) header.d=evil.example",
        "dkim=pass header.i=x@victim.example header.d=evil.example",
        "dkim=pass header.d=evil.example header.d=victim.example",
        "dkim=pass header.i=victim.example",
        "dkim=pass header.i=x(y)@victim.example",
        "dkim=pass header.i=x\u00a0header.d=victim.example\u00a0z=@evil.example",
        "x-dkim=pass header.d=victim.example",
        'dkim="pass" header.d=victim.example',
        "dkim=passed header.d=victim.example",
        "dkim=pass header.d=victim.example extra",
        "dkim=pass; header.d=victim.example",
        "dkim=pass dkim header.d=victim.example",
        "spf=pass header.d=victim.example",
        "dkim=pass header.d=victim.example; spf=none (",
        'dkim=pass header.d=victim.example; spf=none "',
        "dkim=pass header.d=victim.example)",
        "none",
        "",
    ],
)
def test_what_a_stranger_chose_proves_nothing_of_others(results: str) -> None:
    assert VICTIM not in [domain for _, domain in passed(f"mx.example; {results}")]


@pytest.mark.parametrize(
    "shape",
    [
        "(",
        "()",
        '"',
        '"\\',
        "\\",
        ";",
        "=",
        "a=",
        ";dkim=pass header.d=",
        "header.i=@",
        "a ",
        " ",
        "dkim=pass ",
        "a.b=c ",
    ],
)
def test_any_field_is_read_in_linear_time(shape: str) -> None:
    begun = time.process_time()
    list(passed("mx; dkim=pass " + shape * (200_000 // len(shape))))
    assert time.process_time() - begun < 1
