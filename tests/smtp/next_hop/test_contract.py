"""The contract of `smtp_frontend.next_hop.contract`, held by every kind of next hop."""

from collections.abc import Iterator
from mmap import mmap

import pytest

from smtp_frontend.next_hop import NO_OPTIONS, Connection, MailOptions
from smtp_frontend.reply import Reply
from tests.smtp.next_hop.conftest import Peer

ALICE, BOB, CAROL = "alice@example.org", "bob@example.com", "carol@example.com"
HELLO = b"Subject: hello\r\n\r\nhello\r\n"


async def begin(connection: Connection, *recipients: str, sender: str = ALICE) -> None:
    assert (await connection.mail(sender)).positive
    for recipient in recipients:
        assert (await connection.rcpt(recipient)).positive


async def deliver(connection: Connection, *parts: bytes, sender: str = ALICE) -> Reply:
    await begin(connection, BOB, sender=sender)
    return await connection.data(parts)


async def test_a_message_is_delivered(peer: Peer) -> None:
    connection = peer.next_hop.connect()
    reply = await deliver(connection, HELLO)
    await connection.close()
    assert reply.code == 250
    assert not reply.ours
    [message] = peer.messages()
    assert (message.sender, message.recipients, message.content) == (ALICE, (BOB,), HELLO)


@pytest.mark.parametrize(
    "parts",
    [
        (b"",),
        (),
        (b"\r\n",),
        (b".\r\n",),
        (b".",),
        (b"..\r\n...\r\n.\r\n\r\n.\r\n",),
        (b".a\r\n.b\r\n\r\n..c\r\n",),
        (b"a\r\n", b".\r\n", b"b\r\n"),
        (b"a\r\n.", b"\r\n.b"),
        (b"a\r", b"\n", b".", b"\r", b"\n", b"RSET\r", b"\n"),
        (b"no line end",),
        (b"8-bit \xff\xfe\x00 octets\r\n",),
        (b"x" * 200_000, b"\r\n", b".y" * 100_000),
        (b"\r\n.",) * 100_000,
    ],
    ids=lambda parts: repr(b"".join(parts)[:12]),
)
async def test_it_arrives_octet_for_octet(peer: Peer, parts: tuple[bytes, ...]) -> None:
    connection = peer.next_hop.connect()
    assert (await deliver(connection, *parts)).positive
    await connection.close()
    content = b"".join(parts)
    if content and not content.endswith(b"\r\n"):
        content += b"\r\n"
    assert [message.content for message in peer.messages()] == [content]


async def test_a_file_in_memory_arrives_octet_for_octet(peer: Peer) -> None:
    content = b"".join(b".%d\r\n" % number for number in range(50_000))
    connection = peer.next_hop.connect()
    await begin(connection, BOB)
    with mmap(-1, len(content)) as file:
        file.write(content)
        with memoryview(file) as whole, whole[12:] as rest:
            assert (await connection.data([content[:12], rest])).positive
    await connection.close()
    assert [message.content for message in peer.messages()] == [content]


@pytest.mark.parametrize(
    "parts", [(b"a\n",), (b"a\r",), (b"a\r\r\n",), (b"a\r\n", b".\n"), (HELLO * 9_000, b"\n.\nRSET\r\n")]
)
async def test_a_bare_line_ending_is_refused_and_nothing_arrives(peer: Peer, parts: tuple[bytes, ...]) -> None:
    connection = peer.next_hop.connect()
    reply = await deliver(connection, *parts)
    assert (reply.code, reply.enhanced, reply.ours) == (554, "5.6.0", True)
    assert (await deliver(connection, HELLO)).positive
    await connection.close()
    assert [message.content for message in peer.messages()] == [HELLO]


async def test_a_transaction_may_begin_with_its_first_recipient(peer: Peer) -> None:
    connection = peer.next_hop.connect()
    for sender in (ALICE, ""):
        answers = await connection.begin(sender, NO_OPTIONS, BOB)
        assert [answer.code for answer in answers] == [250, 250]
        assert (await connection.data([HELLO])).positive
    await connection.close()
    assert sorted(message.sender for message in peer.messages()) == ["", ALICE]
    assert [message.recipients for message in peer.messages()] == [(BOB,), (BOB,)]


async def test_of_a_transaction_that_begins_with_its_first_recipient_either_may_be_wrong(peer: Peer) -> None:
    connection = peer.next_hop.connect()
    refused = await connection.begin("a b@example.com", NO_OPTIONS, BOB)
    assert [(answer.code, answer.enhanced) for answer in refused] == [(553, "5.1.7")] * 2
    assert (await connection.data([HELLO])).code == 451
    accepted, refused_recipient = await connection.begin(ALICE, NO_OPTIONS, "a b@example.com")
    assert (accepted.positive, refused_recipient.enhanced) == (True, "5.1.3")
    assert (await connection.rcpt(BOB)).positive
    assert (await connection.data([HELLO])).positive
    await connection.close()
    assert [message.recipients for message in peer.messages()] == [(BOB,)]


async def test_a_session_has_many_transactions(peer: Peer) -> None:
    connection = peer.next_hop.connect()
    senders = [ALICE, "", '"two words"@example.org']
    for sender in senders:
        assert (await deliver(connection, HELLO, sender=sender)).positive
    await connection.close()
    assert sorted(message.sender for message in peer.messages()) == sorted(senders)


async def test_sessions_do_not_mix(peer: Peer) -> None:
    first, second = peer.next_hop.connect(), peer.next_hop.connect()
    await begin(first, BOB)
    await begin(second, CAROL, sender="")
    assert (await first.data([b"first\r\n"])).positive
    assert (await second.data([b"second\r\n"])).positive
    await first.close()
    await second.close()
    seen = {(message.sender, message.recipients, message.content) for message in peer.messages()}
    assert seen == {(ALICE, (BOB,), b"first\r\n"), ("", (CAROL,), b"second\r\n")}


async def test_several_recipients_share_a_message_where_they_can(peer: Peer) -> None:
    connection = peer.next_hop.connect()
    await begin(connection, BOB)
    second = await connection.rcpt(CAROL)
    if peer.next_hop.max_recipients == 1:
        assert (second.code, second.enhanced, second.ours) == (452, "4.5.3", True)
    else:
        assert second.positive
    assert (await connection.data([HELLO])).positive
    await connection.close()
    [message] = peer.messages()
    assert message.recipients == ((BOB,) if peer.next_hop.max_recipients == 1 else (BOB, CAROL))


async def test_a_reset_transaction_leaves_nothing(peer: Peer) -> None:
    connection = peer.next_hop.connect()
    await connection.reset()
    await begin(connection, CAROL)
    await connection.reset()
    await connection.reset()
    assert (await deliver(connection, HELLO)).positive
    await connection.close()
    assert [message.recipients for message in peer.messages()] == [(BOB,)]


async def test_mail_again_begins_anew(peer: Peer) -> None:
    connection = peer.next_hop.connect()
    await begin(connection, CAROL)
    assert (await deliver(connection, HELLO, sender="")).positive
    await connection.close()
    assert [(message.sender, message.recipients) for message in peer.messages()] == [("", (BOB,))]


async def test_closing_gives_the_transaction_up_and_may_be_done_twice(peer: Peer) -> None:
    connection = peer.next_hop.connect()
    await connection.close()
    await begin(connection, BOB)
    await connection.close()
    await connection.close()
    assert peer.messages() == []


@pytest.mark.parametrize("address", ["a b@example.com", "a@example.com>\r\nRCPT TO:<x@example.com", "a\n@example.com"])
async def test_an_address_cannot_be_a_command(peer: Peer, address: str) -> None:
    connection = peer.next_hop.connect()
    refused = await connection.mail(address)
    assert (refused.code, refused.enhanced, refused.ours) == (553, "5.1.7", True)
    await begin(connection, BOB)
    refused = await connection.rcpt(address)
    assert (refused.code, refused.enhanced, refused.ours) == (553, "5.1.3", True)
    assert (await connection.data([HELLO])).positive
    await connection.close()
    assert [message.recipients for message in peer.messages()] == [(BOB,)]


async def test_the_null_path_is_no_recipient(peer: Peer) -> None:
    connection = peer.next_hop.connect()
    await begin(connection)
    assert (await connection.rcpt("")).code == 553
    refused = await connection.data([HELLO])
    assert (refused.code, refused.enhanced, refused.ours) == (554, "5.5.1", True)
    await connection.close()
    assert peer.messages() == []


async def test_without_a_transaction_there_is_only_come_again(peer: Peer) -> None:
    connection = peer.next_hop.connect()
    for reply in (await connection.rcpt(BOB), await connection.data([HELLO])):
        assert (reply.code, reply.enhanced, reply.ours) == (451, "4.4.2", True)
    assert (await deliver(connection, HELLO)).positive
    for reply in (await connection.rcpt(BOB), await connection.data([HELLO])):
        assert (reply.code, reply.ours) == (451, True)
    await connection.close()
    assert len(peer.messages()) == 1


async def test_internationalized_mail(peer: Peer) -> None:
    connection = peer.next_hop.connect()
    options = MailOptions(eight_bit=True, smtputf8=True, declared_bytes=100)
    assert (await connection.mail("jörg@example.org", options)).positive
    assert (await connection.rcpt("用户@example.com")).positive
    content = "Subject: grüße\r\n\r\n世界\r\n".encode()
    assert (await connection.data([content])).positive
    await connection.close()
    [message] = peer.messages()
    assert (message.sender, message.recipients) == ("jörg@example.org", ("用户@example.com",))
    assert message.content == content


async def test_when_the_parts_fail_nothing_arrives(peer: Peer) -> None:
    def parts() -> Iterator[bytes]:
        yield HELLO
        raise RuntimeError("the spool is gone")

    connection = peer.next_hop.connect()
    await begin(connection, BOB)
    with pytest.raises(RuntimeError, match="the spool is gone"):
        await connection.data(parts())
    assert (await deliver(connection, b"after\r\n")).positive
    await connection.close()
    assert [message.content for message in peer.messages()] == [b"after\r\n"]
