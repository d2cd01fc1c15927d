"""The numbers that reputon keeps about itself, in Prometheus' form. Every metric name is spelled here.

Labels are bounded: actions, stages, reasons and the names of configured rules, never an address.
"""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import choose_encoder


class Metrics:
    """One process' metrics, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.verdicts = Counter(
            "reputon_verdicts", "Verdicts given", ["stage", "action", "reason"], registry=self.registry
        )
        self.rule_over = Counter(
            "reputon_rule_over", "Times a rule was over its limit", ["rule", "mode"], registry=self.registry
        )
        self.condition_failures = Counter(
            "reputon_condition_failures", "Conditions that could not be answered", ["rule"], registry=self.registry
        )
        self.function_failures = Counter(
            "reputon_function_failures",
            "Policies in Python that failed or took too long",
            ["rule", "error"],
            registry=self.registry,
        )
        self.holds = Counter(
            "reputon_holds",
            "Bans that rules have put down, or were refused",
            ["rule", "result"],
            registry=self.registry,
        )
        self.outcomes = Counter("reputon_outcomes", "Outcomes learned", ["kind"], registry=self.registry)
        self.store_failures = Counter(
            "reputon_store_failures",
            "Calls that the store did not answer in time, or refused",
            ["call", "error"],
            registry=self.registry,
        )
        self.stream_lost = Counter(
            "reputon_stream_lost", "Verdicts that the live stream does not show", ["why"], registry=self.registry
        )
        self._bound: dict[tuple[str, str, str], Counter] = {}
        self.store_up = Gauge("reputon_store_up", "1 while the counter store answers", registry=self.registry)
        self.decision_seconds = Histogram(
            "reputon_decision_seconds",
            "Time from event to verdict",
            buckets=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1.0),
            registry=self.registry,
        )
        self._add_register()
        self._add_smtp()
        self._add_lookups()
        self._add_policy_service()
        self._add_filters()
        self._add_api()

    def _add_register(self) -> None:
        self.register_entries = Gauge("reputon_register_entries", "Entries in force or waiting", registry=self.registry)
        self.register_unreadable = Gauge(
            "reputon_register_unreadable", "Entries of the register that cannot be read", registry=self.registry
        )
        self.list_entries = Gauge("reputon_list_entries", "Values of a list in force", ["list"], registry=self.registry)
        self.list_failures = Counter(
            "reputon_list_failures",
            "Readings of a list that failed, or found mistakes",
            ["list"],
            registry=self.registry,
        )

    def _add_smtp(self) -> None:
        self.log_ins = Counter("reputon_log_ins", "Log-ins by how they ended", ["result"], registry=self.registry)
        self.sessions = Gauge("reputon_smtp_sessions", "SMTP sessions open now", registry=self.registry)
        self.sleepers = Gauge("reputon_smtp_sleepers", "Sessions held back now", registry=self.registry)
        self.sleepers_refused = Counter(
            "reputon_smtp_sleepers_refused", "Delays skipped because too many slept", registry=self.registry
        )
        self.messages = Counter(
            "reputon_smtp_messages", "Messages by what became of them", ["result"], registry=self.registry
        )
        self.errors = Counter("reputon_smtp_errors", "Sessions' own errors, answered with 451", registry=self.registry)

    def _add_lookups(self) -> None:
        self._bound_lookups: dict[tuple[str, str], Counter] = {}
        self.lookups = Counter(
            "reputon_lookups", "Facts from outside, by what was found", ["lookup", "result"], registry=self.registry
        )
        self.lookup_seconds = Histogram(
            "reputon_lookup_seconds",
            "Time to find out what was not remembered",
            ["lookup"],
            buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
            registry=self.registry,
        )

    def _add_filters(self) -> None:
        self.filter_answers = Counter(
            "reputon_filter_answers",
            "Messages by what a content filter said about them",
            ["filter", "verdict"],
            registry=self.registry,
        )
        self.filter_seconds = Histogram(
            "reputon_filter_seconds",
            "Time that a content filter took for a message",
            ["filter"],
            buckets=(0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
            registry=self.registry,
        )
        self.filter_up = Gauge(
            "reputon_filter_up", "1 while a content filter answers", ["filter"], registry=self.registry
        )

    def _add_api(self) -> None:
        self._bound_api: dict[tuple[str, str], tuple[Counter, Histogram]] = {}
        self.api_requests = Counter(
            "reputon_api_requests",
            "Requests to the API, by the template of their path and how they were answered",
            ["route", "status"],
            registry=self.registry,
        )
        self.api_seconds = Histogram(
            "reputon_api_seconds",
            "Time until the API began to answer",
            ["route"],
            buckets=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1.0),
            registry=self.registry,
        )
        self.api_refused = Counter(
            "reputon_api_refused", "Requests that the API has not let in", ["why"], registry=self.registry
        )

    def api_answered(self, route: str, status: str, seconds: float) -> None:
        """Count a request to the API; `status` is 2xx and the like. The labelled ones are kept, as in `count`."""
        bound = self._bound_api.get((route, status))
        if bound is None:
            bound = self.api_requests.labels(route, status), self.api_seconds.labels(route)
            self._bound_api[route, status] = bound
        requests, took = bound
        requests.inc()
        took.observe(seconds)

    def rendered(self, accept: str = "") -> tuple[bytes, str]:
        """All of them as text, and its media type: Prometheus' own or OpenMetrics, as an Accept header wants it."""
        try:
            encode, media_type = choose_encoder(accept)
        except (ValueError, TypeError):  # it compares versions that are none
            encode, media_type = choose_encoder("")
        return encode(self.registry), media_type

    def filtered(self, name: str, verdict: str) -> None:
        """Count what a content filter said about a message."""
        self.filter_answers.labels(name, verdict).inc()

    def _add_policy_service(self) -> None:
        self._bound_answers: dict[str, Counter] = {}
        self.policy_connections = Gauge(
            "reputon_policy_connections", "Connections of mail servers that ask for a policy", registry=self.registry
        )
        self.policy_answers = Counter(
            "reputon_policy_answers", "Answers to mail servers", ["answer"], registry=self.registry
        )

    def policy_answered(self, answer: str) -> None:
        """Count an answer of the policy service. The labelled counter is kept, as in `count`."""
        bound = self._bound_answers.get(answer)
        if bound is None:
            bound = self._bound_answers[answer] = self.policy_answers.labels(answer)
        bound.inc()

    def count(self, stage: str, action: str, reason: str, seconds: float) -> None:
        """Count a verdict. The labelled counter is kept, because finding it takes longer than counting."""
        bound = self._bound.get((stage, action, reason))
        if bound is None:
            bound = self._bound[stage, action, reason] = self.verdicts.labels(stage, action, reason)
        bound.inc()
        self.decision_seconds.observe(seconds)

    def looked_up(self, lookup: str, result: str) -> None:
        """Count a fact, likewise."""
        bound = self._bound_lookups.get((lookup, result))
        if bound is None:
            bound = self._bound_lookups[lookup, result] = self.lookups.labels(lookup, result)
        bound.inc()
