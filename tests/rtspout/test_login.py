"""Who may see what over RTSP: tokens by Digest, what becomes of them, and what an eavesdropper can do with what it has heard."""

import hashlib
import signal
from dataclasses import replace

import pytest

from api.rtspout import login as login_module
from api.rtspout.login import parse_digest
from recorder.rtsp.auth import Authenticator
from tests.media.conftest import video
from tests.rtspout.conftest import Client, Lab, Sender

MAIN, OTHER = (1, "main"), (2, "main")


@pytest.fixture
async def lab(stack):
    made = Lab({MAIN: video().entry, OTHER: video().entry}, stack)
    Sender(made.board, MAIN, video()).send(3)
    Sender(made.board, OTHER, video()).send(3)
    return await made.start(open_door=False)


def keeper(secret: str, user: str = "token") -> Authenticator:
    return Authenticator(user, secret, basic_allowed=False)


async def ask(client: Client, keeper: Authenticator, method: str, path: str, **headers: str):
    """As a player does: without, then with what the challenge asks for."""
    header = keeper.header(method, client.url(path))
    found = await client.ask(method, path, **headers, **({"Authorization": header} if header else {}))
    if found.status != 401:
        return found
    keeper.accept(found.all("www-authenticate"))
    return await client.ask(method, path, **headers, Authorization=keeper.header(method, client.url(path)) or "")


async def play(client: Client, who: Authenticator, path: str = "yard", track: str = "main"):
    found = await ask(client, who, "SETUP", f"{path}/track-{track}", Transport="RTP/AVP/TCP;interleaved=0-1")
    client.session = found["session"].partition(";")[0]
    return await ask(client, who, "PLAY", path)


async def test_nothing_is_told_without_a_token(lab):
    client = await lab.client()
    assert (await client.ask("OPTIONS", "*")).status == 200
    found = await client.ask("DESCRIBE", "yard")
    assert (found.status, found.all("www-authenticate")[0].split()[0]) == (401, "Basic")
    assert [("SHA-256" in way, "qop" in way) for way in found.all("www-authenticate")[1:]] == [(True, True), (False, False)]
    assert b"a token is needed" in found.body
    for method in ("SETUP", "PLAY", "TEARDOWN", "GET_PARAMETER"):
        assert (await client.ask(method, "nowhere", Transport="RTP/AVP/TCP;interleaved=0-1")).status == 401


@pytest.mark.parametrize("algorithm", ["SHA-256", "MD5"])
async def test_a_token_logs_in_by_digest(lab, algorithm):
    client, secret = await lab.client(), lab.token()
    who = keeper(secret)
    if algorithm == "MD5":
        challenges = (await client.ask("DESCRIBE", "yard")).all("www-authenticate")
        who.accept([challenges[-1]])
    assert (await ask(client, who, "DESCRIBE", "yard")).status == 200
    assert (await play(client, who)).status == 200
    assert await client.packet(0)


@pytest.mark.parametrize("change", [
    {"cameras": ("north",)}, {"partner": "depot"}, {"scopes": {"metrics"}}, {"scopes": {"export"}}, {"revoked_ns": 1}, {"expires_ns": 1},
    {"login_md5": b"", "login_sha256": b""}])
async def test_a_token_without_reach_gets_nothing(lab, change):
    client, who = await lab.client(), keeper(lab.token(**change))
    found = await ask(client, who, "DESCRIBE", "yard")
    assert found.status == (404 if {"cameras", "partner"} & change.keys() else 403 if "scopes" in change else 401)
    if "login_md5" in change:
        assert b"must be made anew" in found.body
    found = await ask(client, who, "SETUP", "yard/track-main", Transport="RTP/AVP/TCP;interleaved=0-1")
    assert found.status in {401, 403, 404}
    assert not lab.relays.open


async def test_what_one_token_had_described_is_not_set_up_by_another(lab):
    seeing, other = keeper(lab.token()), keeper(lab.token(cameras=("north",)))
    client = await lab.client()
    assert (await ask(client, seeing, "DESCRIBE", "yard")).status == 200
    assert (await ask(client, other, "SETUP", "yard/track-main", Transport="RTP/AVP/TCP")).status == 404
    assert not client.session


async def test_what_one_token_set_up_is_not_played_by_another(lab):
    seeing, other = keeper(lab.token()), keeper(lab.token(cameras=("north",)))
    client = await lab.client()
    found = await ask(client, seeing, "SETUP", "yard/track-main", Transport="RTP/AVP/TCP;interleaved=0-1")
    client.session = found["session"].partition(";")[0]
    assert (await ask(client, other, "PLAY", "yard")).status == 404
    assert (await ask(client, other, "PLAY", "north")).status == 404
    assert (await ask(client, seeing, "PLAY", "yard")).status == 200


async def test_a_camera_that_was_removed_is_not_played(lab):
    who = keeper(lab.token())
    client = await lab.client()
    found = await ask(client, who, "SETUP", "yard/track-main", Transport="RTP/AVP/TCP;interleaved=0-1")
    client.session = found["session"].partition(";")[0]
    lab.cameras = lab.cameras[1:]
    lab.publish()
    assert (await ask(client, who, "PLAY", "yard")).status == 404


async def test_admin_may_look(lab):
    client, who = await lab.client(), keeper(lab.token(scopes={"admin"}))
    assert (await ask(client, who, "DESCRIBE", "yard")).status == 200


@pytest.mark.parametrize("user", ["admin", "", "TOKEN"])
async def test_only_the_users_name_that_was_hashed_is_one(lab, user):
    client, secret = await lab.client(), lab.token()
    assert (await ask(client, keeper(secret, user), "DESCRIBE", "yard")).status == 401


async def test_what_was_overheard_is_worth_nothing_on_another_connection(lab):
    client, other, secret = await lab.client(), await lab.client(), lab.token()
    who = keeper(secret)
    who.accept((await client.ask("DESCRIBE", "yard")).all("www-authenticate"))
    header = who.header("DESCRIBE", client.url("yard"))
    assert (await client.ask("DESCRIBE", "yard", Authorization=header)).status == 200
    found = await other.ask("DESCRIBE", "yard", Authorization=header)
    assert found.status == 401
    assert all("stale=true" in way for way in found.all("www-authenticate")[1:])
    assert (await client.ask("SETUP", "yard/track-main", Authorization=header, Transport="RTP/AVP/TCP;interleaved=0-1")).status == 401


@pytest.mark.parametrize(("uri", "url", "good"), [
    ("rtsp://h/yard", "rtsp://h/yard", True), ("/yard", "rtsp://h:8554/yard", True), ("rtsp://h/yard/", "rtsp://h/yard/track-main", True),
    ("*", "*", True), ("rtsp://h/north", "rtsp://h/yard", False), ("rtsp://h/", "rtsp://h/yard", False), ("", "rtsp://h/yard", False),
    ("rtsp://h/ya", "rtsp://h/yard", False), ("rtsp://[", "rtsp://h/yard", False)])
def test_a_response_is_good_for_its_address_and_below(uri, url, good):
    assert login_module.covers(uri, url) is good


async def test_an_old_nonce_keeps_a_session_but_begins_nothing(lab, monkeypatch):
    client, secret = await lab.client(), lab.token()
    who = keeper(secret)
    assert (await play(client, who)).status == 200
    monkeypatch.setattr(login_module, "NONCE_S", -1)
    assert (await client.ask("GET_PARAMETER", "yard", Authorization=who.header("GET_PARAMETER", client.url("yard")) or "")).status == 200
    found = await client.ask("DESCRIBE", "yard", Authorization=who.header("DESCRIBE", client.url("yard")) or "")
    assert (found.status, "stale=true" in found.all("www-authenticate")[-1]) == (401, True)


async def test_a_revoked_token_ends_what_it_plays(lab):
    client, who = await lab.client(), keeper(lab.token())
    assert (await play(client, who)).status == 200
    lab.tokens[0] = replace(lab.tokens[0], revoked_ns=1)
    lab.publish()
    assert await client.closed()
    assert not lab.relays.open


async def test_five_wrong_logins_end_the_connection(lab):
    client, who = await lab.client(), keeper("wr_" + "x" * 43)
    lab.token()
    who.accept((await client.ask("DESCRIBE", "yard")).all("www-authenticate"))
    for _ in range(5):
        assert (await client.ask("DESCRIBE", "yard", Authorization=who.header("DESCRIBE", client.url("yard")) or "")).status == 401
    assert await client.closed()


async def test_basic_is_good_where_nobody_can_listen(lab):
    import base64

    client, secret = await lab.client(), lab.token()
    text = base64.b64encode(f"anybody:{secret}".encode()).decode()
    assert (await client.ask("DESCRIBE", "yard", Authorization=f"Basic {text}")).status == 200
    assert (await client.ask("DESCRIBE", "yard", Authorization="Basic !!!")).status == 401


async def test_basic_is_not_offered_to_other_machines(lab):
    made = login_module.Login(None, lab.registry, open_door=False, plain=False)
    assert not any(value.startswith("Basic") for _, value in made._challenge("").headers)


@pytest.mark.parametrize("text", ["", "username=", 'username="a"', 'username="token", nonce="1", uri="/", response="x", algorithm=SHA-512',
                                  'username="token", nonce="1", uri="/", response="x", qop=auth-int', '="', "a=b," * 40])
def test_what_is_no_answer_to_a_challenge_is_none(text):
    assert parse_digest(text) is None


def test_blanks_in_an_answer_are_looked_at_once():
    """Looked at again from each blank on, a megabyte of them takes hours."""
    def give_up(*_):
        raise AssertionError("it goes over them again and again")

    before = signal.signal(signal.SIGVTALRM, give_up)
    signal.setitimer(signal.ITIMER_VIRTUAL, 10)
    try:
        for text in ("a =" + " " * (1 << 20) + '"', "a" + " " * (1 << 20), 'a="' + "\\" * (1 << 20), "a=b" + " " * (1 << 20) + "c"):
            assert parse_digest(text) is None
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def test_what_is_kept_of_a_token_is_what_rfc_7616_says(tmp_path):
    from recorder.base.clock import SimulatedClock
    from storage.catalogue import Catalogue

    with Catalogue.open(tmp_path / "catalogue.sqlite", SimulatedClock(), write=True) as catalogue:
        _, secret = catalogue.add_token("wall", ["view"])
        (token,) = catalogue.tokens()
    assert token.login_md5 == hashlib.md5(f"token:watchroom:{secret}".encode()).digest()
    assert token.login_sha256 == hashlib.sha256(f"token:watchroom:{secret}".encode()).digest()
    assert secret.encode() not in (tmp_path / "catalogue.sqlite").read_bytes()
    assert "login" not in repr(token)


def test_a_catalogue_of_before_is_read_and_gets_the_table(tmp_path):
    import sqlite3

    from recorder.base.clock import SimulatedClock
    from storage.catalogue import Catalogue

    path = tmp_path / "catalogue.sqlite"
    with Catalogue.open(path, SimulatedClock(), write=True) as catalogue:
        catalogue.add_token("old", ["view"])
    with sqlite3.connect(path) as db:
        db.execute("DROP TABLE login")
    db.close()
    with Catalogue.open(path, SimulatedClock()) as catalogue:
        assert [token.login_md5 for token in catalogue.tokens()] == [b""]
    with Catalogue.open(path, SimulatedClock(), write=True) as catalogue:
        catalogue.add_token("new", ["view"])
        assert [bool(token.login_md5) for token in catalogue.tokens()] == [False, True]
