"""Log-ins that a real Dovecot decides, over one connection, and what becomes of it."""

import asyncio
from collections.abc import Sequence

import pytest

from smtp_frontend.auth import DENIED, Accepted, Credentials, VerifierUnavailable
from smtp_frontend.auth import dovecot as dovecot_link
from tests.auth.bad_servers import bad_server
from tests.auth.conftest import Opening
from tests.auth.dovecot_for_tests import Dovecot, dovecot

ALICE = Credentials(login="alice@example.net", password="open sesame")
ACCEPTED = Accepted(user="alice@example.net")


def given(login: str, password: str) -> Credentials:
    return Credentials(login=login, password=password)


@pytest.mark.parametrize(
    ("login", "password", "client", "user"),
    [
        ("alice@example.net", "open sesame", "192.0.2.7", "alice@example.net"),
        ("ALICE@example.net", "open sesame", "2001:db8::7", "alice@example.net"),
        ("alice", "open sesame", "192.0.2.7", "alice@example.net"),
        ("alice@example.net", "Open sesame", "192.0.2.7", None),
        ("nobody@example.net", "open sesame", "192.0.2.7", None),
        ("forbidden@example.net", "x", "192.0.2.7", None),
        ("near@example.net", "x", "192.0.2.7", "near@example.net"),
        ("near@example.net", "x", "198.51.100.7", None),
    ],
)
async def test_dovecot_decides_and_knows_the_client(
    dovecot_service: Dovecot, opened: Opening, login: str, password: str, client: str, user: str | None
) -> None:
    verifier = opened(dovecot_service.url, default_domain="example.net")
    assert await verifier.verify(given(login, password), client) == (DENIED if user is None else Accepted(user=user))


async def test_by_tcp(dovecot_service: Dovecot, opened: Opening) -> None:
    verifier = opened(dovecot_service.tcp_url)
    assert await verifier.verify(ALICE, "192.0.2.7") == ACCEPTED


async def test_what_dovecot_calls_temporary_is_our_trouble(dovecot_service: Dovecot, opened: Opening) -> None:
    verifier = opened(dovecot_service.url)
    with pytest.raises(VerifierUnavailable, match="temporary"):
        await verifier.verify(given("alice@broken.example", "x"), "192.0.2.7")
    assert await verifier.verify(ALICE, "192.0.2.7") == ACCEPTED


async def test_many_share_a_connection_and_each_gets_his_own_answer(dovecot_service: Dovecot, opened: Opening) -> None:
    verifier = opened(dovecot_service.url)
    asked = [ALICE if n % 3 else given("nobody@example.net", "x") for n in range(60)]
    found = await asyncio.gather(*(verifier.verify(each, "192.0.2.7") for each in asked))
    assert found == [ACCEPTED if n % 3 else DENIED for n in range(60)]


async def test_who_has_gone_leaves_no_answer_for_another(dovecot_service: Dovecot, opened: Opening) -> None:
    verifier = opened(dovecot_service.url)
    await verifier.verify(ALICE, "192.0.2.7")
    for _ in range(20):
        gone = asyncio.create_task(verifier.verify(given("nobody@example.net", "x"), "192.0.2.7"))
        await asyncio.sleep(0)
        gone.cancel()
        assert await verifier.verify(ALICE, "192.0.2.7") == ACCEPTED
        assert isinstance((await asyncio.gather(gone, return_exceptions=True))[0], asyncio.CancelledError)


async def test_a_restarted_dovecot_is_connected_to_anew(opened: Opening, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dovecot_link, "CONNECTION_SECONDS", 0.0)  # its old process would go on to answer us
    with dovecot() as server:
        verifier = opened(server.url)
        assert await verifier.verify(ALICE, "192.0.2.7") == ACCEPTED
        server.stop()
        with pytest.raises(VerifierUnavailable, match="cannot connect"):
            await verifier.verify(ALICE, "192.0.2.7")
        server.start()
        assert await verifier.verify(ALICE, "192.0.2.7") == ACCEPTED


async def test_a_process_that_dies_is_not_noticed(opened: Opening) -> None:
    with dovecot() as server:
        verifier = opened(server.url)
        for _ in range(2):
            assert await verifier.verify(ALICE, "192.0.2.7") == ACCEPTED
            server.kill_service("auth")
        assert await verifier.verify(ALICE, "192.0.2.7") == ACCEPTED


HELLO = b"VERSION\t1\t2\nMECH\tPLAIN\tplaintext\nDONE\n"
ASKED = (0, 3)
"""Lines that were heard: none, and after VERSION and CPID the question."""


async def test_an_old_connection_gives_its_last_answers(
    dovecot_service: Dovecot, opened: Opening, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dovecot_link, "CONNECTION_SECONDS", 0.0)
    verifier = opened(dovecot_service.url)
    asked = [ALICE if n % 2 else given("nobody@example.net", "x") for n in range(10)]  # "no" takes longer than "yes"
    found = await asyncio.gather(*(verifier.verify(each, "192.0.2.7") for each in asked))
    assert found == [ACCEPTED if n % 2 else DENIED for n in range(10)]


async def test_a_connection_that_ends_under_a_question_is_tried_again_once(opened: Opening) -> None:
    async with bad_server([HELLO, b""], after_lines=ASKED, hangs_up=True) as server:
        with pytest.raises(VerifierUnavailable, match="hung up"):
            await opened(f"dovecot://127.0.0.1:{server.port}").verify(ALICE)
        assert server.connections == 2


async def test_a_dovecot_that_offers_no_plain_is_our_trouble(opened: Opening) -> None:
    with (
        dovecot(mechanisms="cram-md5") as server,
        pytest.raises(VerifierUnavailable, match="add it to auth_mechanisms"),
    ):
        await opened(server.url).verify(ALICE)


@pytest.mark.parametrize(
    ("says", "said"),
    [
        ([b"VERSION\t2\t0\nMECH\tPLAIN\nDONE\n"], "not version 1"),
        ([b"DONE\n"], "not version 1"),
        ([b"VERSION\t1\t2\nDONE\n"], "does not offer PLAIN"),
        ([b"x" * 10_000], "a line without an end"),
        ([HELLO, b"OK\tx\n"], "an answer without its number"),
        ([HELLO, b"CONT\t1\tx\n"], "temporary"),
    ],
)
async def test_whoever_is_no_dovecot_is_our_trouble(opened: Opening, says: Sequence[bytes], said: str) -> None:
    async with bad_server(says, after_lines=ASKED) as server:
        with pytest.raises(VerifierUnavailable, match=said):
            await opened(f"dovecot://127.0.0.1:{server.port}", deadline_seconds=5).verify(ALICE)


@pytest.mark.parametrize("says", [[], [HELLO]], ids=["at-once", "when-asked"])
async def test_a_silent_dovecot_is_given_up_in_time(opened: Opening, says: Sequence[bytes]) -> None:
    async with bad_server(says) as server:
        verifier = opened(f"dovecot://127.0.0.1:{server.port}", deadline_seconds=0.2)
        found = await asyncio.gather(*(verifier.verify(ALICE) for _ in range(5)), return_exceptions=True)
    assert [type(each) for each in found] == [VerifierUnavailable] * 5


async def test_nobody_there_is_our_trouble(opened: Opening) -> None:
    with pytest.raises(VerifierUnavailable, match="cannot connect"):
        await opened("dovecot:/nowhere/auth-client").verify(ALICE)
