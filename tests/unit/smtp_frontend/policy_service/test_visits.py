"""Which session and which message a question is about, and what is over because of it."""

import itertools

import pytest

from reputation.events import Auth, Connect, Data, Event, Helo, Mail, Rcpt
from reputation.verdict import Action, Reason, Verdict
from smtp_frontend.policy_service.due import due
from smtp_frontend.policy_service.requests import IN_TRANSACTION, Request
from smtp_frontend.policy_service.visit import Line, Named, Transaction, Visit
from smtp_frontend.policy_service.visits import (
    MAX_PLACES,
    MAX_RECIPIENTS,
    MAX_REMEMBERED,
    SESSION_SECONDS,
    TRANSACTION_SECONDS,
    Over,
    Visits,
)

ACCEPTED = Verdict(action=Action.ACCEPT, reason=Reason.NO_RULE)
DISCARDED = Verdict(action=Action.DISCARD, reason=Reason.MATCHED)


class Book:
    """What the service does with `Visits`, without an engine: every verdict is the same."""

    def __init__(self, *, alone: bool = True, most: int = 1_000) -> None:
        numbers = itertools.count(1)
        self.visits = Visits(lambda: f"s{next(numbers)}", alone=alone, most=most)
        self.line = Line("192.0.2.25")
        self.now = 0.0

    def ask(self, state: str, instance: str = "", **attributes: str) -> tuple[list[Event], list[Over]]:
        """The events that are judged because of a question, and what is over."""
        said = {
            "protocol_state": state,
            "client_address": "192.0.2.7",
            "client_port": "4000",
            "helo_name": "" if state == "CONNECT" else "mail.example.com",
            "sender": "alice@example.com",
            "recipient": "bob@example.net" if state == "RCPT" else "",
            "instance": instance,
        }
        request = Request.of(said | attributes)
        assert request.client is not None
        visit, over = self.visits.of(request.client, request, self.line, self.now)
        transaction = None
        if request.state in IN_TRANSACTION:
            transaction, before = self.visits.transaction(visit, request)
            over += [before] if before is not None else []
        if visit.known(request):
            return [], over
        judged = []
        for event in due(request, visit, transaction):
            judged.append(event)
            visit.note(event, ACCEPTED)
            if transaction is not None and isinstance(event, Rcpt):
                self.visits.remember(transaction, event.recipient, Named(ACCEPTED, "DUNNO"))
            if transaction is not None and isinstance(event, Data):
                transaction.final = "DUNNO"
                self.visits.forget(transaction)
        return judged, over

    def stages(self, state: str, instance: str = "", **attributes: str) -> str:
        """The stages that are judged because of a question."""
        return " ".join(event.stage for event in self.ask(state, instance, **attributes)[0])

    def knows_the_end(self) -> None:
        """Let the server have asked at END-OF-MESSAGE once."""
        self.ask("RCPT", "ffff.1.1.0", client_port="1")
        self.ask("END-OF-MESSAGE", "ffff.1.1.0", client_port="1")


def given_back(over: list[Over]) -> int:
    return sum(len(each.charged) for each in over)


def ended(over: list[Over]) -> list[str]:
    return [each.session.id for each in over if each.session is not None]


@pytest.fixture
def book() -> Book:
    return Book()


def test_the_first_question_is_about_everything_before_it(book: Book) -> None:
    assert book.stages("RCPT", "a.1.1.0") == "connect helo mail rcpt"
    assert book.stages("RCPT", "a.1.1.0", recipient="carol@example.net") == "rcpt"
    assert book.stages("END-OF-MESSAGE", "a.1.1.0") == "data"


def test_the_next_message_of_a_session_begins_at_mail(book: Book) -> None:
    book.stages("RCPT", "a.1.1.0")
    book.stages("END-OF-MESSAGE", "a.1.1.0")
    assert book.stages("RCPT", "a.9.9.1") == "mail rcpt"
    assert book.stages("END-OF-MESSAGE", "a.9.9.1") == "data"


def test_another_client_port_is_another_session(book: Book) -> None:
    book.ask("RCPT", "a.1.1.0")
    judged, over = book.ask("RCPT", "a.1.2.0", client_port="4001")
    assert isinstance(judged[0], Connect) and ended(over) == ["s1"]
    assert len(book.visits) == 1


@pytest.mark.parametrize(
    ("instance", "more"), [("a.1.2.0", {}), ("a.1.2.7", {"client_address": "192.0.2.8"}), ("a.0.0.3", {})]
)
def test_a_number_that_does_not_grow_or_another_client_is_another_session(instance: str, more: dict[str, str]) -> None:
    book = Book()
    book.ask("RCPT", "a.1.1.3")
    _, over = book.ask("RCPT", instance, **more)
    assert ended(over) == ["s1"]


def test_processes_have_sessions_side_by_side_and_other_hosts_theirs(book: Book) -> None:
    assert book.stages("RCPT", "a.1.1.0").startswith("connect")
    assert book.stages("RCPT", "b.1.1.0").startswith("connect")
    assert book.stages("END-OF-MESSAGE", "a.1.1.0") == "data"
    book.line = Line("192.0.2.26")
    assert book.stages("RCPT", "a.1.1.0").startswith("connect")
    assert len(book.visits) == 3


def test_a_new_connection_of_the_server_goes_on_with_the_session(book: Book) -> None:
    book.ask("RCPT", "a.1.1.0")
    book.visits.closed(book.line)
    book.line = Line("192.0.2.25")
    assert book.stages("RCPT", "a.1.1.0", recipient="carol@example.net") == "rcpt"


def test_the_same_question_again_is_answered_from_memory(book: Book) -> None:
    book.ask("RCPT", "a.1.1.0")
    assert book.stages("RCPT", "a.1.1.0") == ""
    book.ask("END-OF-MESSAGE", "a.1.1.0")
    assert book.stages("END-OF-MESSAGE", "a.1.1.0") == ""


def test_every_stage_is_judged_where_it_is_asked_at(book: Book) -> None:
    assert book.stages("CONNECT") == "connect"
    assert book.stages("EHLO") == "helo"
    assert book.stages("MAIL") == "mail"
    assert book.stages("RCPT", "a.1.1.0") == "rcpt"
    assert book.stages("DATA", "a.1.1.0") == "data", "nothing is known of END-OF-MESSAGE yet"
    assert book.stages("END-OF-MESSAGE", "a.1.1.0") == "", "it is the same message"
    assert book.stages("MAIL") == "mail"
    assert book.stages("RCPT", "a.1.2.1") == "rcpt"
    assert book.stages("DATA", "a.1.2.1") == ""
    assert book.stages("END-OF-MESSAGE", "a.1.2.1") == "data"
    assert len(book.visits) == 1


def test_the_next_session_on_a_connection_is_known_by_its_port(book: Book) -> None:
    assert book.stages("CONNECT") == "connect"
    judged, over = book.ask("CONNECT", client_port="4001")
    assert len(judged) == 1 and ended(over) == ["s1"]
    assert book.stages("RCPT", "a.1.1.0", client_port="4001") == "helo mail rcpt"


def test_without_ports_each_connect_is_a_session(book: Book) -> None:
    book.ask("CONNECT", client_port="")
    _, over = book.ask("CONNECT", client_port="")
    assert ended(over) == ["s1"]


def test_helo_is_judged_when_the_name_is_another(book: Book) -> None:
    book.ask("RCPT", "a.1.1.0")
    assert book.stages("RCPT", "a.1.1.1") == "mail rcpt"
    judged, _ = book.ask("RCPT", "a.1.1.2", helo_name="other.example.com")
    assert isinstance(judged[0], Helo) and judged[0].session.helo == "other.example.com"
    assert book.stages("RCPT", "a.1.1.3", helo_name="") == "mail rcpt"


def test_a_login_is_judged_once(book: Book) -> None:
    judged, _ = book.ask("RCPT", "a.1.1.0", sasl_username="alice", encryption_protocol="TLSv1.3")
    [connect, helo, auth, mail, _] = judged
    assert isinstance(auth, Auth) and (auth.login, auth.success) == ("alice", True)
    assert (connect.session.user, helo.session.user) == ("", "")
    assert (mail.session.user, mail.session.tls) == ("alice", True)
    assert book.stages("RCPT", "a.1.1.1", sasl_username="alice") == "mail rcpt"


def test_vrfy_is_about_who_is_connected_only(book: Book) -> None:
    assert book.stages("VRFY", recipient="bob@example.net") == "connect helo"
    assert book.stages("ETRN") == ""


def test_tokens_name_the_question_and_nothing_else() -> None:
    def tokens() -> list[str]:
        book = Book()
        asked = [book.ask("RCPT", "a.1.1.0"), book.ask("END-OF-MESSAGE", "a.1.1.0")]
        return [event.token for judged, _ in asked for event in judged if isinstance(event, Mail | Rcpt | Data)]

    assert tokens() == tokens() and len(set(tokens())) == 3
    book = Book()
    judged, _ = book.ask("RCPT", "")
    assert [event.token for event in judged if isinstance(event, Mail | Rcpt)] == ["", ""]


def test_the_message_has_its_size_and_all_its_recipients(book: Book) -> None:
    book.ask("RCPT", "a.1.1.0", size="500")
    book.ask("RCPT", "a.1.1.0", recipient="carol@example.net")
    [[data], _] = book.ask("END-OF-MESSAGE", "a.1.1.0", size="1234", recipient_count="2")
    assert isinstance(data, Data)
    assert (data.message_bytes, data.recipients) == (1_234, ("bob@example.net", "carol@example.net"))


def test_a_message_whose_beginning_was_asked_elsewhere_counts_its_size_only(book: Book) -> None:
    assert book.stages("END-OF-MESSAGE", "a.1.1.0", recipient="bob@example.net") == "connect helo mail rcpt data"
    book.ask("RCPT", "a.1.1.1")
    assert book.stages("END-OF-MESSAGE", "b.1.1.0", recipient="bob@example.net") == "data"


# What comes to nothing


def test_nothing_is_given_back_to_a_server_that_does_not_say_what_became_of_it(book: Book) -> None:
    book.ask("RCPT", "a.1.1.0")
    _, over = book.ask("RCPT", "a.1.2.1")
    assert given_back(over) == 0


def test_a_message_that_does_not_come_is_given_back_when_the_next_one_begins(book: Book) -> None:
    book.knows_the_end()
    book.ask("RCPT", "a.1.1.0")
    book.ask("RCPT", "a.1.1.0", recipient="carol@example.net")
    _, over = book.ask("RCPT", "a.1.2.1")
    assert given_back(over) == 1 + 2, "MAIL, and both recipients"
    assert ended(over) == []
    book.ask("END-OF-MESSAGE", "a.1.2.1")
    _, over = book.ask("RCPT", "a.1.3.2")
    assert given_back(over) == 0, "one that has passed is not"


def test_a_server_that_asks_at_data_only_has_said_it_there(book: Book) -> None:
    book.ask("RCPT", "a.1.1.0")
    book.ask("DATA", "a.1.1.0")
    book.ask("RCPT", "a.1.1.1")
    _, over = book.ask("RCPT", "a.1.1.2")
    assert given_back(over) == 2


def test_other_ports_of_a_server_may_ask_at_other_stages(book: Book) -> None:
    book.knows_the_end()
    book.ask("RCPT", "a.1.1.0", server_port="587")
    _, over = book.ask("RCPT", "a.1.1.1", server_port="587")
    assert given_back(over) == 0


def test_who_is_silent_is_over(book: Book) -> None:
    book.knows_the_end()
    book.ask("RCPT", "a.1.1.0")
    book.ask("RCPT", "b.1.1.0")
    book.ask("END-OF-MESSAGE", "b.1.1.0")
    assert ended(list(book.visits.silent(SESSION_SECONDS))) == []
    over = list(book.visits.silent(SESSION_SECONDS + 1))
    assert (len(ended(over)), given_back(over)) == (2, 0), "those that have nothing under way"
    over = list(book.visits.silent(TRANSACTION_SECONDS + 1))
    assert (len(ended(over)), given_back(over)) == (1, 2)
    assert (len(book.visits), book.visits.remembered) == (0, 0)


@pytest.mark.parametrize(("alone", "count"), [(True, 2), (False, 0)])
def test_where_others_answer_too_a_closed_connection_says_nothing(alone: bool, count: int) -> None:
    book = Book(alone=alone)
    book.knows_the_end()
    book.ask("RCPT", "a.1.1.0")
    book.visits.closed(book.line)
    assert given_back(list(book.visits.silent(TRANSACTION_SECONDS + 1))) == count


# Bounds


def test_who_was_not_heard_of_for_longest_is_over_when_there_are_too_many() -> None:
    book = Book(most=3)
    for process in "abc":
        book.ask("RCPT", f"{process}.1.1.0")
    book.ask("RCPT", "a.1.1.0", recipient="carol@example.net")
    _, over = book.ask("RCPT", "d.1.1.0")
    assert ended(over) == ["s2"] and len(book.visits) == 3


def test_remembered_recipients_are_bounded_in_a_message_and_in_all() -> None:
    book = Book(most=100_000)
    for message in range(MAX_REMEMBERED // MAX_RECIPIENTS + 2):
        transaction = Transaction(instance="", number=1, sender="")
        for number in range(MAX_RECIPIENTS + 5):
            book.visits.remember(transaction, f"r{number}", Named(ACCEPTED, "DUNNO"))
        assert len(transaction.recipients) == (MAX_RECIPIENTS if message < MAX_REMEMBERED // MAX_RECIPIENTS else 0)
    assert book.visits.remembered == MAX_REMEMBERED


def test_places_are_bounded(book: Book) -> None:
    for number in range(3 * MAX_PLACES):
        book.ask("RCPT", f"{number:x}.1.1.0", server_address=f"s{number}")
    assert len(book.visits._places) <= MAX_PLACES


# What is remembered of a transaction


def test_a_message_is_discarded_for_all_recipients_or_for_none() -> None:
    transaction = Transaction(instance="", number=1, sender="")
    visit = _visit(transaction)
    for recipient in ("a", "b"):
        transaction.recipients[recipient] = Named(ACCEPTED, "DUNNO")
    event = Rcpt(session=visit.facts, sender="", recipient="a")
    visit.note(event, DISCARDED)
    assert not transaction.discards
    visit.note(Rcpt(session=visit.facts, sender="", recipient="b"), DISCARDED)
    assert transaction.discards and not transaction.doomed


def test_tags_add_up_and_the_latest_class_of_service_holds() -> None:
    transaction = Transaction(instance="", number=1, sender="")
    tagged = Verdict(action=Action.TAG, reason=Reason.OVER_LIMIT, tags=("a",), service="bulk")
    transaction.carry(ACCEPTED)
    assert transaction.told
    transaction.carry(tagged)
    transaction.told = True
    transaction.carry(tagged)
    assert transaction.told, "nothing new"
    transaction.carry(Verdict(action=Action.ACCEPT, reason=Reason.MATCHED, service="vip"))
    assert (transaction.tags, transaction.service, transaction.told) == (("a",), "vip", False)
    assert transaction.shown is tagged


def _visit(transaction: Transaction) -> Visit:
    book = Book()
    book.ask("CONNECT")
    visit = book.line.visit
    assert visit is not None
    visit.transaction = transaction
    return visit
