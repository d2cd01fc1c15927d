"""Log-ins that a real directory decides: by a name, by a search, by TLS, and when it is of no use."""

import asyncio
from typing import Any

import pytest

from smtp_frontend.auth import DENIED, Accepted, Credentials, VerifierUnavailable, ldap_bind
from tests.auth.bad_servers import bad_server
from tests.auth.conftest import Opening
from tests.auth.directory_for_tests import BASE, MOVED, PEOPLE, SEARCH_DN, USER_DN, DirectoryServer

BY_NAME = {"ldap_user_dn": USER_DN}
BY_SEARCH = {"ldap_base": PEOPLE, "ldap_bind_dn": SEARCH_DN, "ldap_bind_password": "search"}
ALICE = Credentials(login="alice", password="open sesame")


def given(login: str, password: str) -> Credentials:
    return Credentials(login=login, password=password)


@pytest.mark.parametrize("settings", [BY_NAME, BY_SEARCH], ids=["by-name", "by-search"])
@pytest.mark.parametrize(
    ("login", "password", "user"),
    [
        ("alice", "open sesame", "alice"),
        ("ALICE", "open sesame", "alice"),
        ("alice", "Open sesame", None),
        ("alice", "*", None),
        ("nobody", "open sesame", None),
        ("locked", "x", None),
        ("a,b+c", "comma", "a,b+c"),
        ("star*", "star", "star*"),
        ("*", "star", None),
        ("s*", "star", None),
        ("alice)(uid=*", "open sesame", None),
        ("alice,ou=people", "open sesame", None),
        ("\\2a", "star", None),
    ],
)
async def test_the_directory_decides(
    directory: DirectoryServer, opened: Opening, settings: dict[str, Any], login: str, password: str, user: str | None
) -> None:
    verified = await opened(directory.url, **settings).verify(given(login, password), "192.0.2.7")
    assert verified == (DENIED if user is None else Accepted(user=user))


async def test_a_search_by_address_finds_one_or_nobody(directory: DirectoryServer, opened: Opening) -> None:
    verifier = opened(directory.url, **BY_SEARCH, ldap_filter="(mail={user})", default_domain="example.net")
    assert await verifier.verify(ALICE) == Accepted(user="alice@example.net")
    assert await verifier.verify(given("team@example.net", "same")) is DENIED, "two have this address"


@pytest.mark.parametrize("settings", [BY_NAME, BY_SEARCH], ids=["by-name", "by-search"])
@pytest.mark.parametrize("way", ["ldaps", "starttls", "socket"])
async def test_by_tls_and_by_a_socket(
    directory: DirectoryServer, opened: Opening, settings: dict[str, Any], way: str
) -> None:
    ca = str(directory.tls.ca)
    verifier = {
        "ldaps": lambda: opened(directory.tls_url, ldap_ca=ca, **settings),
        "starttls": lambda: opened(directory.url, ldap_ca=ca, ldap_starttls=True, **settings),
        "socket": lambda: opened(f"ldapi://{directory.socket}", **settings),
    }[way]()
    assert await verifier.verify(ALICE) == Accepted(user="alice")
    assert await verifier.verify(given("alice", "wrong")) is DENIED


@pytest.mark.parametrize("starttls", [False, True])
async def test_a_certificate_that_proves_nothing_gets_no_password(
    directory: DirectoryServer, opened: Opening, starttls: bool
) -> None:
    url = directory.url if starttls else directory.tls_url
    with pytest.raises(VerifierUnavailable, match="CERTIFICATE_VERIFY_FAILED"):
        await opened(url, ldap_starttls=starttls, **BY_NAME).verify(ALICE)
    known = {"ldap_starttls": starttls, "ldap_ca": str(directory.tls.ca)}
    with pytest.raises(VerifierUnavailable, match=r"127\.0\.0\.2"):
        await opened(url.replace("127.0.0.1", "127.0.0.2"), **known, **BY_NAME).verify(ALICE)


async def test_an_empty_password_never_reaches_the_directory(directory: DirectoryServer, opened: Opening) -> None:
    empty = object.__new__(Credentials)  # which cannot be made otherwise
    object.__setattr__(empty, "login", "alice")
    object.__setattr__(empty, "password", "")
    verifier = opened(directory.url, **BY_NAME)
    assert await verifier.verify(empty) is DENIED


async def test_the_directory_would_have_said_success_to_an_empty_password(directory: DirectoryServer) -> None:
    """Why the test before this one says something: the bind request of RFC 4513 section 5.1.2, by hand."""
    name = USER_DN.format(user="alice").encode()
    body = b"\x02\x01\x03\x04" + bytes([len(name)]) + name + b"\x80\x00"
    bind = b"\x60" + bytes([len(body)]) + body
    reader, writer = await asyncio.open_connection("127.0.0.1", directory.port)
    writer.write(b"\x30" + bytes([3 + len(bind)]) + b"\x02\x01\x01" + bind)
    assert b"\x61\x07\x0a\x01\x00" in await asyncio.wait_for(reader.read(1_024), 10)
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({**BY_SEARCH, "ldap_bind_password": "wrong"}, "bind to search: invalidCredentials"),
        ({"ldap_base": BASE}, "search: insufficientAccessRights"),
        ({**BY_SEARCH, "ldap_base": "dc=nowhere"}, "search: "),
    ],
)
async def test_a_search_that_is_refused_is_our_trouble(
    directory: DirectoryServer, opened: Opening, settings: dict[str, Any], said: str
) -> None:
    with pytest.raises(VerifierUnavailable, match=said):
        await opened(directory.url, **settings).verify(ALICE)


async def test_no_referral_is_followed(directory: DirectoryServer, opened: Opening) -> None:
    async with bad_server(port=directory.elsewhere) as elsewhere:
        with pytest.raises(VerifierUnavailable, match="search: referral"):
            await opened(directory.url, **{**BY_SEARCH, "ldap_base": MOVED}).verify(ALICE)
        assert await opened(directory.url, **{**BY_SEARCH, "ldap_base": BASE}).verify(ALICE) == Accepted(user="alice")
        assert await opened(directory.url, ldap_user_dn=f"uid={{user}},{MOVED}").verify(ALICE) is DENIED
        assert elsewhere.connections == 0


async def test_many_log_in_at_once(directory: DirectoryServer, opened: Opening) -> None:
    verifier = opened(directory.url, **BY_SEARCH)
    asked = [given("alice", "open sesame" if n % 2 else "wrong") for n in range(60)]
    found = await asyncio.gather(*(verifier.verify(each) for each in asked))
    assert found == [Accepted(user="alice") if n % 2 else DENIED for n in range(60)]


async def test_nobody_there_is_our_trouble(opened: Opening) -> None:
    async with bad_server() as server:
        pass
    with pytest.raises(VerifierUnavailable, match="Connection refused"):
        await opened(f"ldap://127.0.0.1:{server.port}", **BY_NAME).verify(ALICE)


@pytest.mark.parametrize("way", [{}, {"ldap_starttls": True}], ids=["plain", "starttls"])
async def test_a_silent_server_is_given_up_in_time(opened: Opening, way: dict[str, Any]) -> None:
    async with bad_server() as server:
        verifier = opened(f"ldap://127.0.0.1:{server.port}", deadline_seconds=0.3, **way, **BY_NAME)
        with pytest.raises(VerifierUnavailable):
            await asyncio.wait_for(verifier.verify(ALICE), 10)


@pytest.mark.parametrize(
    "says",
    [b"220 mx.example.net ESMTP\r\n", b"\x30\x84\x00\x00\x00\x02\x02\x00", b"\x30\x00" * 9, b"\0" * 99, b"\xff" * 99],
)
async def test_a_server_that_speaks_no_ldap_is_our_trouble(opened: Opening, says: bytes) -> None:
    async with bad_server([says], hangs_up=True) as server:
        with pytest.raises(VerifierUnavailable):
            await opened(f"ldap://127.0.0.1:{server.port}", deadline_seconds=5, **BY_NAME).verify(ALICE)


async def test_who_has_gone_keeps_no_thread(
    directory: DirectoryServer, opened: Opening, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ldap_bind, "MAX_THREADS", 1)
    async with bad_server() as server:
        verifier = opened(f"ldap://127.0.0.1:{server.port}", deadline_seconds=60, **BY_NAME)
        task = asyncio.create_task(verifier.verify(ALICE))
        async with asyncio.timeout(10):
            while not server.heard:
                await asyncio.sleep(0.005)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            again = asyncio.create_task(verifier.verify(ALICE))
            while server.connections < 2:  # the only thread is free again
                await asyncio.sleep(0.005)
        again.cancel()
        await asyncio.gather(again, return_exceptions=True)
