"""Two hundred attack strings in every place a request has: 4xx, and no file touched outside the site's own folders."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


def listed(section: str) -> list[str]:
    """The strings of one section of attacks.txt."""
    lines = (Path(__file__).parent / "attacks.txt").read_text().splitlines()
    begin = lines.index(f"# {section}") + 1
    ends = [at for at, line in enumerate(lines) if at >= begin and line.startswith("# ")]
    return lines[begin : ends[0] if ends else len(lines)]


NAMES = [*listed("traversals"), *listed("names"), "n" * 49, "n" * 2000]
TIMES = [*listed("times"), "", "9" * 40, "9" * 4000]
QUERIES = [*listed("queries"), "cursor=" + "A" * 4000, "partner=" + "p" * 201, "state=" + "s" * 41]


def requests() -> list[bytes]:
    """Every target, as it goes over the wire."""
    targets = []
    for name in NAMES:
        targets += [f"/api/v1/cameras/{name}", f"/api/v1/cameras/{name}/timeline?start=0&end=1", f"/api/v1/cameras/north/{name}", f"/{name}"]
        targets += [f"/api/v1/cameras/north/timeline?start=0&end=1&track={name.replace('&', '%26')}"]
    targets += [f"/api/v1/cameras/north/timeline?start={time}&end=1" for time in TIMES]
    targets += [f"/api/v1/cameras/north/timeline?start=0&end={time}" for time in TIMES]
    targets += [f"/api/v1/cameras/north/timeline?start=0&end=1&resolution={time}" for time in TIMES]
    targets += [f"/api/v1/cameras/north/minutes?start={time}&end=1" for time in TIMES]
    targets += [f"/api/v1/cameras/north/minutes?start=0&end=1&minutes={time}" for time in TIMES]
    targets += [f"/api/v1/cameras?{query}" for query in QUERIES]
    return [target.encode() for target in targets]


WATCHED = frozenset(
    ("open", "os.listdir", "os.scandir", "sqlite3.connect", "subprocess.Popen", "os.system", "socket.connect", "socket.getaddrinfo")
)


class Watch:
    """What this process opens, lists and connects to, by the interpreter's audit events."""

    def __init__(self) -> None:
        self.on = False
        self.seen: list[tuple[str, str]] = []
        sys.addaudithook(self._hook)

    def _hook(self, event: str, args: tuple[Any, ...]) -> None:
        if self.on and event in WATCHED:
            self.seen.append((event, str(args[1] if event == "socket.connect" else args[0])))


WATCH = Watch()  # a hook stays for the life of the process


@pytest.fixture
def watch() -> Iterator[Watch]:
    WATCH.seen.clear()
    yield WATCH
    WATCH.on = False


def outside(seen: list[tuple[str, str]], folder: Path, port: int) -> list[tuple[str, str]]:
    """What was touched that is neither below the site's folders nor the test's own way to the server.

    What is listed by its descriptor (the folder of holds, once a second) was opened by a name before.
    """
    own = {f"('127.0.0.1', {port})", str(folder / "state" / "run" / "slot-0.sock")}
    relative = ("tape.zarr/cam-1", "idx/cam-1/")
    ours = {("socket.getaddrinfo", "127.0.0.1"), *(one for one in seen if one[0] == "os.listdir" and one[1].isdigit())}
    return [one for one in seen if one not in ours and one[1] not in own and not one[1].startswith((str(folder), *relative))]


async def test_two_hundred_attack_strings_touch_nothing(api: Any, watch: Watch, tmp_path: Path) -> None:
    assert (await api.get("cameras/north/timeline?start=0&end=1")).status == 200
    targets = requests()
    assert len(set(targets)) > 200
    watch.on = True
    for target in targets:
        answer = await api.raw_get(target)
        assert 400 <= answer.status < 500, (target, answer.status, answer.body[:200])
        assert b"root:" not in answer.body and str(tmp_path).encode() not in answer.body
        assert "x-evil" not in answer.headers
    watch.on = False
    assert outside(watch.seen, tmp_path, api.served.port) == []


async def test_the_watch_sees_what_it_is_there_for(watch: Watch, tmp_path: Path) -> None:
    watch.on = True
    Path("/etc/hostname").exists()
    with open("/etc/passwd"):
        pass
    watch.on = False
    assert outside(watch.seen, tmp_path, 1) == [("open", "/etc/passwd")]


@pytest.mark.parametrize("headers", [[b"X: " + b"a" * 20_000], [b"X%d: 1" % n for n in range(500)], [b"Cookie: " + b"a=b; " * 5_000]])
async def test_headers_without_end_are_refused(api: Any, headers: list[bytes]) -> None:
    answer = await api.raw_get(b"/api/v1/cameras", *headers)
    assert 400 <= answer.status < 500


async def test_a_target_without_end_is_refused(api: Any) -> None:
    assert 400 <= (await api.raw_get(b"/" + b"a" * 100_000)).status < 500


@pytest.mark.parametrize(
    "smuggled",
    [
        [b"Content-Length: 5", b"Transfer-Encoding: chunked"],
        [b"Content-Length: 5", b"Content-Length: 6"],
        [b"Content-Length: -1"],
        [b"Content-Length: +5"],
        [b"Transfer-Encoding: xchunked"],
        [b"Transfer-Encoding : chunked"],
    ],
)
async def test_a_body_of_two_lengths_is_refused(api: Any, smuggled: list[bytes]) -> None:
    answer = await api.raw_get(
        b"/api/v1/session", *smuggled, b"Content-Type: application/json", b"Origin: " + api.origin.encode(), method=b"POST"
    )
    assert 400 <= answer.status < 500


@pytest.mark.parametrize("malformed", [
    b"GET /api/v1/cameras HTTP/1.1\r\nHost: {host}\nAuthorization: Bearer {token}\r\n\r\n",
    b"GET /api/v1/cameras HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\0\r\n\r\n",
    b"get /api/v1/cameras?x={token} HTTP/1.1\r\nHost: {host}\r\n\r\n",
    b"POST /api/v1/links HTTP/1.1\r\nHost: {host}\r\nAuthorization : Bearer {token}\r\n\r\n",
    b"POST /api/v1/links HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\nX: {token}\r\n\r\n0\r\n\r\n",
    b"\x16\x03\x01\x02{token}\r\n\r\n",
])
async def test_what_cannot_be_read_is_not_quoted(api: Any, malformed: bytes) -> None:
    """The answer may be logged by a proxy, or shown; it bears what every answer bears."""
    token = (await api.token("view")).encode()
    answer = await api.raw(malformed.replace(b"{host}", api.host.encode()).replace(b"{token}", token))
    assert answer.status == 400 and answer.json["status"] == 400 and b"wr_" not in answer.body
    assert answer.headers["server"] == "watchroom" and answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-type"] == "application/problem+json"
