"""The program: what it makes of the limits of its surroundings."""

import logging
import resource

import pytest

from reputation.front_end_settings import SmtpSettings
from smtp_frontend.__main__ import DESCRIPTORS_PER_SESSION, OTHER_DESCRIPTORS, within_descriptors


class Limits:
    """A process' limit of open files."""

    def __init__(self, soft: int, hard: int) -> None:
        self.now = (soft, hard)

    def get(self, _which: int) -> tuple[int, int]:
        return self.now

    def set(self, _which: int, limits: tuple[int, int]) -> None:
        assert limits[0] <= limits[1], "the kernel refuses more than the hard limit"
        self.now = limits


def limited(monkeypatch: pytest.MonkeyPatch, soft: int, hard: int) -> Limits:
    limits = Limits(soft, hard)
    monkeypatch.setattr(resource, "getrlimit", limits.get)
    monkeypatch.setattr(resource, "setrlimit", limits.set)
    return limits


def test_the_soft_limit_is_raised_for_the_configured_sessions(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = limited(monkeypatch, 1_024, 500_000)
    assert within_descriptors(SmtpSettings(max_sessions=2_000)).max_sessions == 2_000
    assert limits.now[0] == DESCRIPTORS_PER_SESSION * 2_000 + OTHER_DESCRIPTORS


def test_connections_of_the_policy_service_have_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = limited(monkeypatch, 1_024, 500_000)
    within_descriptors(SmtpSettings(max_sessions=2_000), 1_000)
    assert limits.now[0] == DESCRIPTORS_PER_SESSION * 2_000 + 1_000 + OTHER_DESCRIPTORS


def test_a_limit_that_is_high_enough_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = limited(monkeypatch, 100_000, 500_000)
    assert within_descriptors(SmtpSettings(max_sessions=2_000)).max_sessions == 2_000
    assert limits.now == (100_000, 500_000)


def test_where_it_cannot_be_raised_there_are_fewer_sessions(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    limited(monkeypatch, 1_024, 1_024)
    with caplog.at_level(logging.WARNING):
        sessions = within_descriptors(SmtpSettings(max_sessions=2_000)).max_sessions
    assert DESCRIPTORS_PER_SESSION * sessions + OTHER_DESCRIPTORS <= 1_024
    assert f"max_sessions is {sessions}, not 2000" in caplog.text
