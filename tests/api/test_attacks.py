"""Two hundred attack strings in every place a request has: 4xx, and no file touched outside the site's own folders."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.api.conftest import Api

TRAVERSALS = [
    "../../../../etc/passwd", "..%2f..%2f..%2fetc%2fpasswd", "%2e%2e/%2e%2e/etc/passwd", "%2e%2e%2f%2e%2e%2fetc%2fpasswd", "..%252f..%252fetc%252fpasswd",
    "..%c0%af..%c0%afetc/passwd", "..%5c..%5cetc%5cpasswd", "....//....//etc/passwd", "..;/..;/etc/passwd", ".%00./etc/passwd", "%2fetc%2fpasswd",
    "%2f%2fetc%2fpasswd", "/etc/passwd", "//etc/passwd", "file:///etc/passwd", "file:%2f%2f%2fetc%2fpasswd", "~root/.ssh/id_rsa", "%7eroot", "..", ".", "%2e",
    "%2e%2e", "..%00", "..%0d%0a", "%ef%bc%8e%ef%bc%8e%ef%bc%8fetc", "%e2%80%a5%2fetc", "..%u2216etc", "proc%2fself%2fenviron", "%2fproc%2fself%2fmem",
    "%2fdev%2fzero", "state%2fapi.key", "catalogue.sqlite", "..%2fstate%2fcatalogue.sqlite", "volume.json", "tape.zarr%2fcam-1%2fmain", "cam-1", "cam-1%2fmain%2fc%2f0",
]
NAMES = [
    "north%00", "north%00.mp4", "north%0a", "north%0d%0aX-Evil:%201", "NORTH", "North", "-north", "north_", "north%20", "%20north", "n" * 49, "n" * 2000,
    "north%2f", "north;a=b", "north,yard", "north|id", "north%7cid", "$(id)", "%60id%60", "${jndi:ldap://x}", "%7b%7b7*7%7d%7d", "'%20OR%20'1'='1",
    "%27%3b%20DROP%20TABLE%20camera%3b--", "1%20UNION%20SELECT%201", "*", "%3f", "%25", "%", "%zz", "%e9", "%ff%fe", "%f0%9f%93%b7", "%ef%bd%8eorth", "n%cc%84orth",
    "<script>alert(1)</script>", "%3cscript%3e", "%3Csvg%20onload%3d1%3e", "0x10", "-1", "1e309", "NaN", "null", "undefined", "true", "[]", "{}", "con", "nul", "aux",
    "%e2%80%ae", "%c2%a0", "constructor", "__proto__", "north@evil", "@", ":", "::", "a:b", "http:%2f%2fevil", "rtsp://10.0.0.1", "rtsp:%2f%2f127.0.0.1:22",
]
TIMES = [
    "now", "-1", "1e18", "0x0", "%00", "9" * 40, "9" * 4000, "2026-99-99T00:00:00Z", "2026-01-01", "%c2%b2", "%d9%a1", "1;2", "1%0a", "1%20", "NaN", "Infinity", "1_0",
    "2026-01-01T00:00:00Z%00", "%2e%2e%2fetc", "' OR 1=1", "true", "",
]
QUERIES = [
    "limit=0", "limit=-1", "limit=1001", "limit=1e3", "limit=%00", "limit=99999999999999999999", "limit=", "limit=1&limit=2", "cursor=..", "cursor=Li4vLi4v",
    "cursor=%00", "cursor=" + "A" * 4000, "cursor=%ff", "cursor=bm9ydGgK", "partner=%00", "partner=%0d%0aSet-Cookie:x", "partner=" + "p" * 201, "site=%1b[31m",
    "state=%00", "state=" + "s" * 41, "x=1", "start=1", "sig=1&exp=1&kid=1", "__proto__=1", "limit[]=1", "limit%00=1", "%00=1", "LIMIT=1", "token=wr_x",
]


def requests() -> list[bytes]:
    """Every target, as it goes over the wire."""
    targets = []
    for name in TRAVERSALS + NAMES:
        targets += [f"/api/v1/cameras/{name}", f"/api/v1/cameras/{name}/timeline?start=0&end=1", f"/api/v1/cameras/north/{name}", f"/{name}"]
        targets += [f"/api/v1/cameras/north/timeline?start=0&end=1&track={name.replace('&', '%26')}"]
    targets += [f"/api/v1/cameras/north/timeline?start={time}&end=1" for time in TIMES]
    targets += [f"/api/v1/cameras/north/timeline?start=0&end={time}" for time in TIMES]
    targets += [f"/api/v1/cameras/north/timeline?start=0&end=1&resolution={time}" for time in TIMES]
    targets += [f"/api/v1/cameras?{query}" for query in QUERIES]
    return [target.encode() for target in targets]


class Watch:
    """What this process opens, lists and connects to, by the interpreter's audit events."""

    def __init__(self) -> None:
        self.on = False
        self.seen: list[tuple[str, str]] = []
        sys.addaudithook(self._hook)

    def _hook(self, event: str, args: tuple[Any, ...]) -> None:
        if self.on and event in {"open", "os.listdir", "os.scandir", "sqlite3.connect", "subprocess.Popen", "os.system", "socket.connect", "socket.getaddrinfo"}:
            self.seen.append((event, str(args[1] if event == "socket.connect" else args[0])))


WATCH = Watch()  # a hook stays for the life of the process


@pytest.fixture
def watch() -> Iterator[Watch]:
    WATCH.seen.clear()
    yield WATCH
    WATCH.on = False


def outside(seen: list[tuple[str, str]], folder: Path, port: int) -> list[tuple[str, str]]:
    """What was touched that is neither below the site's folders nor the test's own way to the server."""
    own = {f"('127.0.0.1', {port})", str(folder / "state" / "run" / "slot-0.sock")}
    relative = ("tape.zarr/cam-1", "idx/cam-1/")
    return [(event, what) for event, what in seen
            if what not in own and not what.startswith((str(folder), *relative)) and not (event == "socket.getaddrinfo" and what == "127.0.0.1")]


async def test_two_hundred_attack_strings_touch_nothing(api: Api, watch: Watch, tmp_path: Path) -> None:
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
async def test_headers_without_end_are_refused(api: Api, headers: list[bytes]) -> None:
    answer = await api.raw_get(b"/api/v1/cameras", *headers)
    assert 400 <= answer.status < 500


async def test_a_target_without_end_is_refused(api: Api) -> None:
    assert 400 <= (await api.raw_get(b"/" + b"a" * 100_000)).status < 500


@pytest.mark.parametrize("smuggled", [
    [b"Content-Length: 5", b"Transfer-Encoding: chunked"], [b"Content-Length: 5", b"Content-Length: 6"], [b"Content-Length: -1"], [b"Content-Length: +5"],
    [b"Transfer-Encoding: xchunked"], [b"Transfer-Encoding : chunked"],
])
async def test_a_body_of_two_lengths_is_refused(api: Api, smuggled: list[bytes]) -> None:
    answer = await api.raw_get(b"/api/v1/session", *smuggled, b"Content-Type: application/json", b"Origin: " + api.origin.encode(), method=b"POST")
    assert 400 <= answer.status < 500
