"""Feedback reports as they arrive by mail, told by `reputon outcome --arf`."""

from pathlib import Path

import pytest

from tests.cli.site_for_tests import Site

REPORT = """\
From: <abusedesk@example.com>
Date: Thu, 8 Mar 2005 17:40:36 EDT
Subject: FW: Earn money
To: <abuse@example.net>
Message-ID: <{id}@example.com>
MIME-Version: 1.0
Content-Type: multipart/report; report-type=feedback-report; boundary="part"

--part
Content-Type: text/plain

This is an abuse report.

--part
Content-Type: message/feedback-report

Feedback-Type: abuse
User-Agent: SomeGenerator/1.0
Version: 1
Source-IP: {client}

--part
Content-Type: message/rfc822

From: <somespammer@example.net>
To: <joe@example.com>
Subject: Earn money

Spam Spam Spam

--part--
"""


def complaints(site: Site, client: str) -> int:
    counts = site.run_here("explain", f"ip:{client}", "--json").json["counts"]
    found: int = next((each["count"] for each in counts if (each["metric"], each["window"]) == ("complaints", "1h")), 0)
    return found


@pytest.mark.parametrize("way", ["file", "-"])
def test_a_report_is_counted_once_however_often_it_comes(site: Site, way: str, tmp_path: Path) -> None:
    client = f"203.0.113.{100 + 2 * bool(site.environment) + (way == '-')}"
    text = REPORT.format(id=client, client=client)
    (tmp_path / "report.eml").write_text(text, encoding="utf-8")
    name = str(tmp_path / "report.eml") if way == "file" else way
    told = site.run("outcome", "--arf", name, text=text)
    assert (told.status, told.err) == (0, "")
    assert told.lines[0].startswith(f"counted for ip:{client}, ")
    assert site.run("outcome", "--arf", name, text=text).lines == ["counted before: nothing was done"]
    assert complaints(site, client) == 1


@pytest.mark.parametrize("text", ["", "Subject: hello\n\nhello\n", "\0" * 100, "x" * 3_000_000])
def test_what_is_no_report_is_a_mistake(store_site: Site, text: str) -> None:
    told = store_site.run("outcome", "--arf", "-", text=text)
    assert (told.status, told.out) == (1, "")
    assert len(told.err.splitlines()) == 1


def test_a_report_that_is_not_there_is_a_mistake(store_site: Site, tmp_path: Path) -> None:
    told = store_site.run_here("outcome", "--arf", tmp_path / "nothing")
    assert (told.status, told.err) == (1, f"{tmp_path / 'nothing'}: cannot be read: No such file or directory\n")
