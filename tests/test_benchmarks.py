"""Each benchmark runs once at its small size: what it prints, and those promises that no clock can break."""

import json
import subprocess
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

from benchmarks.reputation import DATA
from tests.servers import redis_binary, require_binary, valkey_binary

ROOT = Path(__file__).resolve().parent.parent
TARGETS: dict[str, dict[str, str | None]] = {
    "store": {
        "server_us_per_check_valkey": "<= 15",
        "server_us_per_check_redis": "<= 15",
        "checks_per_second_valkey": ">= 60000",
        "checks_per_second_redis": ">= 60000",
    },
    "judge": {
        "cluster_decisions_per_second": ">= 8000",
        "standalone_decisions_per_second": ">= 10000",
        "cluster_p99_ms_half_load": "<= 1",
        "round_trips_per_decision": "= 1",
    },
    "memory": {"bytes_per_entity_valkey": "<= 380", "bytes_per_entity_redis": "<= 380"},
    "accuracy": {
        "strict_false_allows": "= 0",
        "interpolated_wrong_share": "<= 0.005",
        "server_differs_from_reference": "= 0",
    },
    "peers": {"ratio_to_limits": None, "ratio_to_throttled": None, "ratio_to_rspamd": None},
    "growth": {"worst_cost_ratio": "<= 1.2"},
    "policy": {"us_per_event": "<= 100"},
    "replay": {"lines_read_per_second": ">= 50000", "events_judged_three_rules_per_second": ">= 10000"},
    "lookups": {"us_remembered": None},
    "reputation": {"auc": ">= 0.955", "tpr_at_fpr_0_003": ">= 0.5"},
    "smtp": {"ratio_to_bare_relay": ">= 0.6", "verdicts_per_message": "= 3", "rules_fired": "= 0"},
    "policy_service": {"requests_per_second": ">= 5000", "p99_ms_half_load": "<= 10"},
    "api": {"check_requests_per_second": ">= 2000", "top20_p99_ms": "<= 50", "entity_p99_ms": "<= 20"},
    "sessions": {
        "kb_per_idle_session": "<= 40",
        "kb_per_busy_session": "<= 400",
        "rss_growth_mb": "<= 4",
        "descriptors_left": "= 0",
        "sessions_left": "= 0",
    },
}
"""Benchmark -> result -> target, of those results that the project has promised."""
UNTIMED = (
    ("judge", "round_trips_per_decision"),
    ("memory", "bytes_per_entity_valkey"),
    ("memory", "bytes_per_entity_redis"),
    ("accuracy", "strict_false_allows"),
    ("accuracy", "server_differs_from_reference"),
    ("smtp", "verdicts_per_message"),
    ("smtp", "rules_fired"),
    ("sessions", "descriptors_left"),
    ("sessions", "sessions_left"),
)
RELAYING = ("smtp", "sessions")
"""Those with a mail server behind the front end."""
NOT_INSTALLED, NO_DATA = "not installed", f"not measured: {DATA} is not there"
MAY_BE_MISSING = {
    "ratio_to_limits": NOT_INSTALLED,
    "ratio_to_throttled": NOT_INSTALLED,
    "ratio_to_rspamd": NOT_INSTALLED,
    "postfwd_requests_per_second": NOT_INSTALLED,
} | ({} if DATA.exists() else {"auc": NO_DATA, "tpr_at_fpr_0_003": NO_DATA})
"""Result -> what its unit says when it could not be measured here."""


@lru_cache
def printed(benchmark: str) -> dict[str, Any]:
    """What ``--quick --json`` prints."""
    redis_binary()
    valkey_binary()
    if benchmark in RELAYING:
        require_binary("smtp-sink", "postfix")
    command = [sys.executable, "-m", f"benchmarks.{benchmark}", "--quick", "--json"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    found: dict[str, Any] = json.loads(run.stdout)
    return found


def results(benchmark: str) -> dict[str, dict[str, Any]]:
    return {result["name"]: result for result in printed(benchmark)["results"]}


@pytest.mark.parametrize("benchmark", TARGETS)
def test_a_benchmark_prints_what_was_agreed(benchmark: str) -> None:
    whole = printed(benchmark)
    assert whole.keys() == {"benchmark", "machine", "results"}
    assert whole["benchmark"] == benchmark
    assert whole["machine"].keys() == {"cpu", "cores", "system", "python", "servers", "calibration"}
    assert whole["machine"]["calibration"]["python_step_ns"]["median"] > 0
    assert len(results(benchmark)) == len(whole["results"]), "two results of one name"
    for result in whole["results"]:
        assert result.keys() == {"name", "value", "unit", "target", "met"}
        if result["value"] is None:
            assert result["name"] in MAY_BE_MISSING and MAY_BE_MISSING[result["name"]] in result["unit"]
        else:
            assert isinstance(result["value"], int | float) and result["value"] >= 0
        assert result["met"] in ((None,) if result["target"] is None else (True, False))


@pytest.mark.parametrize("benchmark", TARGETS)
def test_a_benchmark_has_the_promised_results_and_targets(benchmark: str) -> None:
    found = results(benchmark)
    targets = {name: found[name]["target"] for name in TARGETS[benchmark] if name in found}
    assert targets == TARGETS[benchmark]
    assert {name for name, result in found.items() if result["target"] is not None} <= TARGETS[benchmark].keys()


@pytest.mark.parametrize(("benchmark", "name"), UNTIMED)
def test_a_promise_that_no_clock_can_break(benchmark: str, name: str) -> None:
    result = results(benchmark)[name]
    assert result["met"], result


@pytest.mark.parametrize("name", TARGETS["reputation"])
def test_reputation_ranks_real_mail_as_promised(name: str) -> None:
    """Where there is that mail; it is not part of the project."""
    result = results("reputation")[name]
    assert result["met"] if DATA.exists() else result["value"] is None, result


def test_reputation_knows_addresses_by_their_networks() -> None:
    found = results("reputation")
    flat, by_network = (found[f"auc_made_up_{name}"]["value"] for name in ("flat_prior", "client_hierarchy"))
    assert by_network > flat + 0.1


def test_a_benchmark_s_data_that_is_not_there(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.reputation", "--json", "--data", str(tmp_path / "no-such.csv")]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 2 and run.stdout == ""
    assert run.stderr.endswith(f"there is no file {tmp_path / 'no-such.csv'}\n")
