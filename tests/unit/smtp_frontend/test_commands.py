"""The grammar of commands: what is read, what is refused, and with which code."""

from ipaddress import ip_address

import pytest

from smtp_frontend.commands import (
    MAX_DOMAIN,
    MAX_LOCAL_PART,
    MAX_LOGIN,
    XCLIENT_ATTRIBUTES,
    CommandError,
    MailCommand,
    XclientCommand,
    parse_helo,
    parse_mail,
    parse_rcpt,
    parse_xclient,
    split,
)


@pytest.mark.parametrize(
    ("line", "verb", "argument"),
    [
        (b"QUIT", "QUIT", b""),
        (b"quit  ", "QUIT", b""),
        (b"Mail From:<a@b>", "MAIL", b"From:<a@b>"),
        (b"  NOOP \t x y\t", "NOOP", b"x y"),
        (b"", "", b""),
        (b"MAIL\tFROM:<a@b>", "MAIL\tFROM:<A@B>", b""),  # a tab is no separator: no such command
        (b"M\xc4IL x", "M\ufffdIL", b"x"),
    ],
)
def test_a_line_is_a_verb_and_an_argument(line: bytes, verb: str, argument: bytes) -> None:
    assert split(line) == (verb, argument)


@pytest.mark.parametrize(
    "name", ["client.example.com", "localhost", "[192.0.2.1]", "[IPv6:2001:db8::1]", "under_score", "x"]
)
def test_helo_takes_names_and_literals(name: str) -> None:
    assert parse_helo(name.encode()) == name


@pytest.mark.parametrize("name", [b"", b"-x", b"a b", b"a<b>", b"caf\xc3\xa9", b"x" * 256, b"a\x01b", b"a\n", b"a/b"])
def test_helo_takes_nothing_that_could_disturb_a_header(name: bytes) -> None:
    with pytest.raises(CommandError) as error:
        parse_helo(name)
    assert error.value.reply.code == 501


@pytest.mark.parametrize(
    ("text", "sender"),
    [
        ("<alice@example.com>", "alice@example.com"),
        ("alice@example.com", "alice@example.com"),
        ("<>", ""),
        ("<alice>", "alice"),
        ("<Alice+x@Example.COM>", "Alice+x@Example.COM"),
        ("<@a.example,@b.example:alice@example.com>", "alice@example.com"),
        ("<@a.example:alice@example.com>", "alice@example.com"),
        ('<"a b"@example.com>', '"a b"@example.com'),
        ('<"a\\"b@c>"@example.com>', '"a\\"b@c>"@example.com'),
        ('<""@example.com>', '""@example.com'),
        ("<alice@[192.0.2.1]>", "alice@[192.0.2.1]"),
        ("<alice@[IPv6:2001:db8::1]>", "alice@[IPv6:2001:db8::1]"),
        ("<a..b.@example.com.>", "a..b.@example.com."),
        ("<SRS0=HHH=TT=example.org=bob@example.com>", "SRS0=HHH=TT=example.org=bob@example.com"),
        ("<a!b%c/d*e~f'g@example.com>", "a!b%c/d*e~f'g@example.com"),
        (f"<{'x' * MAX_LOCAL_PART}@example.com>", f"{'x' * MAX_LOCAL_PART}@example.com"),
    ],
)
def test_what_is_an_address(text: str, sender: str) -> None:
    assert parse_mail(f"FROM:{text}".encode()) == MailCommand(sender=sender)
    assert parse_mail(f"from: \t{text}  ".encode()).sender == sender
    if "@" in sender:
        assert parse_rcpt(f"TO:{text}".encode(), smtputf8=False) == sender


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<",
        ">",
        "<alice@example.com",
        "alice@example.com>",
        "<<alice@example.com>>",
        "<alice@example.com>x",
        "<alice@>",
        "<@example.com>",
        "<@a.example:>",
        "<alice@b@example.com>",
        "<alice bob@example.com>",
        "<alice@exa mple.com>",
        "<alice@-example.com>",
        "<alice@example.com->",
        '<"alice@example.com>',
        '<alice"@example.com>',
        '<"a"b@example.com>',
        '<"a\\"@example.com>',
        "<ali\\ce@example.com>",
        "<(comment)alice@example.com>",
        "<alice@[192.0.2.1>",
        "<alice@192.0.2.1]>",
        "<alice@[a b]>",
        "<al\x01ice@example.com>",
        '<"a\x01"@example.com>',
        "<al\x7fice@example.com>",
        "<alice@example.com\x0b>",
        "<alice@example.com>\x0b",
        "<alice@example.com>\u00a0",
        "<al\u0085ice@example.com>",
        "<al\u00a0ice@example.com>",
        "< alice@example.com>",
        "<alice@example.com >",
        "Alice <alice@example.com>",
        f"<{'x' * (MAX_LOCAL_PART + 1)}@example.com>",
        f"<x@{'x' * (MAX_DOMAIN + 1)}>",
    ],
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(CommandError) as error:
        parse_mail(f"FROM:{text}".encode())
    assert error.value.reply.code == 501
    with pytest.raises(CommandError) as error:
        parse_rcpt(f"TO:{text}".encode(), smtputf8=True)
    assert error.value.reply.code == 501


@pytest.mark.parametrize("argument", [b"", b"<a@b>", b"TO:<a@b>", b"FROM <a@b>", b"FROM"])
def test_the_keyword_must_be_there(argument: bytes) -> None:
    with pytest.raises(CommandError, match="Syntax: FROM:<address>"):
        parse_mail(argument)


@pytest.mark.parametrize("recipient", ["postmaster", "Postmaster", "POSTMASTER"])
def test_postmaster_needs_no_domain(recipient: str) -> None:
    assert parse_rcpt(f"TO:<{recipient}>".encode(), smtputf8=False) == recipient


@pytest.mark.parametrize("text", ["<bob>", "<>", "bob", '<"postmaster">'])
def test_other_recipients_need_one(text: str) -> None:
    with pytest.raises(CommandError) as error:
        parse_rcpt(f"TO:{text}".encode(), smtputf8=False)
    assert (error.value.reply.code, error.value.reply.enhanced) == (501, "5.1.3")


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ("SIZE=0", MailCommand(sender="a@b")),
        ("size=12345", MailCommand(sender="a@b", declared_bytes=12_345)),
        ("SIZE=99999999999999999999", MailCommand(sender="a@b", declared_bytes=10**20 - 1)),
        ("BODY=7BIT", MailCommand(sender="a@b")),
        ("body=8bitmime", MailCommand(sender="a@b", eight_bit=True)),
        ("SMTPUTF8", MailCommand(sender="a@b", smtputf8=True)),
        ("SIZE=1 BODY=8BITMIME  SMTPUTF8", MailCommand(sender="a@b", declared_bytes=1, eight_bit=True, smtputf8=True)),
        ("SIZE=1 SIZE=2", MailCommand(sender="a@b", declared_bytes=2)),
    ],
)
def test_parameters_of_mail(parameters: str, expected: MailCommand) -> None:
    assert parse_mail(f"FROM:<a@b> {parameters}".encode()) == expected


@pytest.mark.parametrize(
    ("parameters", "code"),
    [
        ("SIZE", 501),
        ("SIZE=", 501),
        ("SIZE=-1", 501),
        ("SIZE=1.5", 501),
        ("SIZE=0x10", 501),
        ("SIZE=100000000000000000000", 501),
        ("SIZE=\u0661", 501),
        ("BODY", 501),
        ("BODY=BINARYMIME", 501),
        ("SMTPUTF8=1", 501),
        ("=1", 501),
        ("-X=1", 501),
        ("X=a=b", 501),
        ("SIZE=1\x0bBODY=7BIT", 501),
        ("AUTH=<>", 555),
        ("RET=FULL", 555),
        ("X", 555),
    ],
)
def test_parameters_that_are_wrong_and_those_that_are_unknown(parameters: str, code: int) -> None:
    with pytest.raises(CommandError) as error:
        parse_mail(f"FROM:<a@b> {parameters}".encode())
    assert (error.value.reply.code, error.value.reply.enhanced) == (code, "5.5.4")


def test_a_recipient_has_no_parameters() -> None:
    with pytest.raises(CommandError) as error:
        parse_rcpt(b"TO:<a@b> NOTIFY=NEVER", smtputf8=False)
    assert error.value.reply.code == 555


@pytest.mark.parametrize("address", ["änne@example.com", "anne@bücher.example", '"ä b"@example.com', "用户@例子.广告"])
def test_a_non_ascii_address_needs_smtputf8(address: str) -> None:
    assert parse_mail(f"FROM:<{address}> SMTPUTF8".encode()).sender == address
    assert parse_rcpt(f"TO:<{address}>".encode(), smtputf8=True) == address
    for refused in (
        lambda: parse_mail(f"FROM:<{address}>".encode()),
        lambda: parse_rcpt(f"TO:<{address}>".encode(), smtputf8=False),
    ):
        with pytest.raises(CommandError) as error:
            refused()
        assert (error.value.reply.code, error.value.reply.enhanced) == (553, "5.6.7")


def test_octets_that_are_no_utf_8_are_no_address() -> None:
    with pytest.raises(CommandError, match="not UTF-8"):
        parse_mail(b"FROM:<\xe4nne@example.com> SMTPUTF8")


# XCLIENT


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("ADDR=192.0.2.7", XclientCommand(names_client=True, client=ip_address("192.0.2.7"))),
        ("addr=IPV6:2001:db8::7", XclientCommand(names_client=True, client=ip_address("2001:db8::7"))),
        ("ADDR=ipv6:2001:DB8::7", XclientCommand(names_client=True, client=ip_address("2001:db8::7"))),
        ("ADDR=[unavailable]", XclientCommand(names_client=True)),
        ("LOGIN=alice", XclientCommand(user="alice")),
        ("LOGIN=al+2Bice+40example.com", XclientCommand(user="al+ice@example.com")),
        ("LOGIN=+C3+A4nne", XclientCommand(user="änne")),
        ("LOGIN=[TEMPUNAVAIL] HELO=[UNAVAILABLE]", XclientCommand(user="", helo="")),
        ("LOGIN=a+3Db", XclientCommand(user="a=b")),
        ("HELO=client.example.com", XclientCommand(helo="client.example.com")),
        ("HELO=[192.0.2.7]", XclientCommand(helo="[192.0.2.7]")),
        (
            "NAME=c.example.com ADDR=192.0.2.7  PORT=1 PROTO=esmtp HELO=x LOGIN=a DESTADDR=IPV6:::1 DESTPORT=65535",
            XclientCommand(names_client=True, client=ip_address("192.0.2.7"), helo="x", user="a"),
        ),
        ("NAME=[TEMPUNAVAIL] PORT=[UNAVAILABLE] PROTO=SMTP DESTADDR=[UNAVAILABLE]", XclientCommand()),
        (f"LOGIN={'x' * MAX_LOGIN}", XclientCommand(user="x" * MAX_LOGIN)),
    ],
)
def test_what_a_proxy_says_of_its_client(text: str, command: XclientCommand) -> None:
    assert parse_xclient(text.encode()) == command


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ADDR",
        "ADDR=",
        "=192.0.2.7",
        "NOSUCH=x",
        "ADDR=192.0.2.7 ADDR=192.0.2.8",
        "ADDR=192.0.2.7 addr=192.0.2.7",
        "ADDR=192.0.2.300",
        "ADDR=[192.0.2.7]",
        "ADDR=192.0.2.0/24",
        "ADDR=2001:db8::7",
        "ADDR=IPV6:192.0.2.7",
        "ADDR=IPV6:fe80::1%eth0",
        "ADDR=IPV6:fe80::1%25+20x",
        "ADDR=localhost",
        "LOGIN=a=b",
        "LOGIN=a+",
        "LOGIN=a+2b",
        "LOGIN=+4",
        "LOGIN=\xe4",
        "LOGIN=+FF",
        "LOGIN=+EF+BF+BD",
        f"LOGIN={'x' * (MAX_LOGIN + 1)}",
        "HELO=a+20b",
        "NAME=a+3Cb",
        f"NAME={'x' * 256}",
        "PROTO=LMTP",
        "PORT=65536",
        "PORT=-1",
        "PORT=٣",
        "DESTPORT=x",
        "DESTADDR=x",
    ],
)
def test_what_a_proxy_must_not_say(text: str) -> None:
    with pytest.raises(CommandError) as error:
        parse_xclient(text.encode())
    assert (error.value.reply.code, error.value.reply.enhanced) == (501, "5.5.4")


@pytest.mark.parametrize("attribute", sorted(XCLIENT_ATTRIBUTES))
@pytest.mark.parametrize("code", ["+00", "+0D+0A", "+0A", "+09", "+1B", "+7F", "+C2+85", "+E2+80+A8", "+E2+80+AE"])
def test_no_value_of_a_proxy_begins_a_line_of_its_own(attribute: str, code: str) -> None:
    with pytest.raises(CommandError, match="not xtext"):
        parse_xclient(f"{attribute}=a{code}b".encode())
