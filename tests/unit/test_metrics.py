"""Metrics: one registry per process, and labels that nobody outside can multiply."""

from prometheus_client import generate_latest

from reputation.metrics import Metrics


def test_two_engines_in_one_process_do_not_share_their_numbers() -> None:
    one, other = Metrics(), Metrics()
    one.sessions.set(3)
    assert b"reputon_smtp_sessions 3.0" in generate_latest(one.registry)
    assert b"reputon_smtp_sessions 0.0" in generate_latest(other.registry)


def test_every_metric_is_ours_by_name_and_explained() -> None:
    for family in Metrics().registry.collect():
        assert family.name.startswith("reputon_")
        assert family.documentation


def test_pitfall_32_no_label_can_hold_an_address() -> None:
    bounded = {"stage", "action", "reason", "rule", "mode", "kind", "call", "error", "result", "lookup", "list"}
    bounded |= {"filter", "verdict", "answer", "why", "route", "status"}
    labels = {label for metric in vars(Metrics()).values() for label in getattr(metric, "_labelnames", ())}
    assert labels <= bounded
