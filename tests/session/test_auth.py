"""Challenges and answers: published vectors, the strongest first, what is never sent."""

import hashlib
import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder.base.errors import SourceError
from recorder.base.media import GapCause
from recorder.rtsp.auth import _ITEM, Authenticator, parse_challenges

RFC7616 = ('Digest realm="http-auth@example.org", qop="auth, auth-int", algorithm={}, nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", '
           'opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"')
CNONCE = bytes.fromhex("00112233aabbccdd")


def fields(header: str) -> dict[str, str]:
    assert header.startswith("Digest ")
    return {k: v.strip('"') for k, _, v in (part.partition("=") for part in header[7:].split(", "))}


def login(*challenges: str, user: str = "Mufasa", password: str = "Circle of Life", basic: bool = False) -> Authenticator:
    made = Authenticator(user, password, basic_allowed=basic, entropy=lambda n: CNONCE[:n])
    made.accept(challenges)
    return made


def test_rfc_2069_answer_without_qop() -> None:
    """The vector of RFC 2069's errata, as cameras without qop check it."""
    made = login('Digest realm="testrealm@host.com", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093"', password="CircleOfLife")
    sent = fields(made.header("GET", "/dir/index.html") or "")
    assert sent["response"] == "1949323746fe6a43ef61f9606e7febea"
    assert "qop" not in sent and "algorithm" not in sent and "cnonce" not in sent


@pytest.mark.parametrize(("algorithm", "response"), [
    ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
    ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
])
def test_rfc_7616_vectors(algorithm: str, response: str) -> None:
    made = login(RFC7616.format(algorithm))
    made._cnonce = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ"
    sent = fields(made.header("GET", "/dir/index.html") or "")
    assert (sent["response"], sent["qop"], sent["nc"], sent["algorithm"]) == (response, "auth", "00000001", algorithm)


def test_strongest_known_challenge_wins_and_unknown_ones_are_skipped() -> None:
    for values in (
        ['Basic realm="a"', 'Digest realm="b", nonce="1"', 'Digest realm="b", nonce="2", algorithm=SHA-256',
         'Digest realm="b", nonce="3", algorithm=SHA-512-256'],
        ['Basic realm="a", Digest realm="b", nonce="1", Digest realm="b", nonce="2", algorithm="SHA-256", Negotiate, '
         'Digest nonce="3", algorithm=SHA-512-256'],
    ):
        made = login(*values)
        assert fields(made.header("OPTIONS", "rtsp://h/") or "")["nonce"] == "2"


def test_list_in_one_header_is_split_outside_quotes() -> None:
    found = parse_challenges(['Digest realm="a, Basic realm=x", nonce="1,2", qop="auth,auth-int", stale=TRUE, Basic realm="c"'])
    assert [(c.scheme, c.realm, c.nonce, c.qop, c.stale) for c in found] == [
        ("digest", "a, Basic realm=x", "1,2", "auth", True), ("basic", "c", "", "", False)]


@pytest.mark.parametrize(("value", "qop"), [('qop="auth"', "auth"), ("qop=auth", "auth"), ('qop="auth-int"', "auth-int"), ('qop=""', "")])
def test_qop_in_its_spellings(value: str, qop: str) -> None:
    assert parse_challenges([f'Digest realm="r", nonce="n", {value}'])[0].qop == qop


def test_auth_int_covers_the_body() -> None:
    made = login('Digest realm="r", nonce="n", qop="auth-int"')
    first = fields(made.header("SET_PARAMETER", "rtsp://h/", b"a") or "")
    made.accept(['Digest realm="r", nonce="m", qop="auth-int"'])
    made._challenge = parse_challenges(['Digest realm="r", nonce="n", qop="auth-int"'])[0]
    second = fields(made.header("SET_PARAMETER", "rtsp://h/", b"b") or "")
    assert first["nc"] == second["nc"] == "00000001" and first["response"] != second["response"]


def test_sess_mixes_nonce_and_cnonce_into_the_secret() -> None:
    sent = fields(login('Digest realm="r", nonce="n", algorithm=MD5-sess, qop=auth').header("PLAY", "rtsp://h/x") or "")

    def h(text: str) -> str:
        return hashlib.md5(text.encode()).hexdigest()
    ha1 = h(f"{h('Mufasa:r:Circle of Life')}:n:{sent['cnonce']}")
    assert sent["response"] == h(f"{ha1}:n:00000001:{sent['cnonce']}:auth:{h('PLAY:rtsp://h/x')}")
    assert sent["algorithm"] == "MD5-sess"


def test_nonce_count_grows_with_each_request_and_begins_anew_with_a_nonce() -> None:
    made = login('Digest realm="r", nonce="n", qop=auth')
    assert [fields(made.header("OPTIONS", "u") or "")["nc"] for _ in range(2)] == ["00000001", "00000002"]
    made.accept(['Digest realm="r", nonce="n", qop=auth'])
    assert fields(made.header("OPTIONS", "u") or "")["nc"] == "00000003"
    made.accept(['Digest realm="r", nonce="m", qop=auth, stale=true'])
    assert fields(made.header("OPTIONS", "u") or "")["nc"] == "00000001"


def test_nothing_is_sent_before_a_challenge() -> None:
    assert Authenticator("u", "p", basic_allowed=True).header("OPTIONS", "u") is None


def test_basic_only_by_consent() -> None:
    with pytest.raises(SourceError, match="basic_without_tls") as caught:
        login('Basic realm="a"')
    assert (caught.value.cause, caught.value.retry_s >= 300) == (GapCause.AUTH, True)
    assert login('Basic realm="a"', user="ü", password="p@ss:w/ord?#1", basic=True).header("X", "u") == "Basic w7w6cEBzczp3L29yZD8jMQ=="


@pytest.mark.parametrize("values", [[], ["Negotiate"], ['Digest realm="r"'], ['Digest realm="r", nonce="n", algorithm=FOO'], ["\x00,,=,\""]])
def test_no_usable_challenge_is_told(values: list[str]) -> None:
    with pytest.raises(SourceError, match="no known way") as caught:
        login(*values)
    assert caught.value.cause == GapCause.AUTH


def test_missing_credentials_are_told() -> None:
    with pytest.raises(SourceError, match="asks for a user"):
        login('Digest realm="r", nonce="n"', user="", password="")


@given(st.lists(st.text(alphabet='Dd igest,="\\nonce relmqopa-x1', max_size=60), max_size=5))
def test_any_challenge_is_read_or_left_out(values: list[str]) -> None:
    assert len(parse_challenges(values)) <= 16


def test_a_camera_cannot_fill_our_log_with_names_of_schemes():
    with pytest.raises(SourceError) as caught:
        Authenticator("viewer", "secret", basic_allowed=False).accept([", ".join("A" * 2000 + str(n) for n in range(16))])
    assert len(str(caught.value)) < 300


def test_blanks_are_read_once() -> None:
    """Read again from each blank on, 16 challenges of 2 KiB took the loop, and with it all cameras, for 0.17 s."""
    def give_up(*_: object) -> None:
        raise AssertionError("they are read again and again")

    before = signal.signal(signal.SIGVTALRM, give_up)
    signal.setitimer(signal.ITIMER_VIRTUAL, 10)
    try:
        for blanks in (" " * (1 << 19), "\t" * (1 << 19)):
            for item in (f"q={blanks}a b", f"q{blanks}=a b", f"q=a{blanks}b", f"{blanks}q"):
                assert parse_challenges([f'Digest nonce="x", {item}'])[0].nonce == "x"
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def test_a_quote_that_never_ends_is_read_once_and_250_challenges_are_not_read() -> None:
    """255 headers of escaped quotes took the loop, and with it all cameras, for 8 s."""
    value = 'Digest nonce="' + '\\"' * 1000
    assert _ITEM.findall(value) == [value]
    assert parse_challenges(["Bearer"] * 16 + ['Digest nonce="x"'])[-1].scheme == "bearer"
    assert parse_challenges(['Digest realm="a", nonce="b'])[0].nonce == "b"
