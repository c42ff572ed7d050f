"""The page's modules by themselves, in the browser: acknowledgements, the live edge, what a fragment begins with, words."""

import struct
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page

from api.mp4.fragment import FragmentTrack, init_segment
from bench.site import Site
from recorder.base.media import SampleEntry

pytestmark = [pytest.mark.browser, pytest.mark.live]


@pytest.fixture(scope="module")
def page(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """A page of the server's, without cameras."""
    with Site(tmp_path_factory.mktemp("modules") / "site", {}, bytes_max=2 << 30, whole=True) as site:
        opened = browser.new_page()
        for _ in range(600):
            try:
                opened.goto(f"http://127.0.0.1:{site.port}/")
                break
            except Exception:
                opened.wait_for_timeout(100)
        yield opened
        opened.close()
    site.clean()


def box(name: bytes, *content: bytes) -> bytes:
    body = b"".join(content)
    return struct.pack(">I4s", 8 + len(body), name) + body


def full(name: bytes, flags: int, *words: int) -> bytes:
    return box(name, struct.pack(f">{len(words) + 1}I", flags, *words))


KEY, DELTA = 0x02000000, 0x01010000
TRUN_ALL = 0xF01


def moof(*trafs: bytes) -> bytes:
    return box(b"moof", full(b"mfhd", 0, 1), *trafs) + box(b"mdat", b"x" * 20)


def traf(track: int, trun: bytes, tfhd: bytes | None = None, tfdt: bytes | None = None) -> bytes:
    return box(b"traf", tfhd or full(b"tfhd", 0x20002, track, 1), tfdt or full(b"tfdt", 1 << 24, 1, 5), trun)


def each(*samples: tuple[int, int]) -> bytes:
    """Samples of 3,600 ticks as (flags, composition offset)."""
    words = [word for flags, offset in samples for word in (3600, 20, flags, offset & 0xFFFFFFFF)]
    return full(b"trun", TRUN_ALL, len(samples), 100, *words)


AT = (1 << 32) + 5


@pytest.mark.parametrize(("name", "fragment", "brings"), [
    ("key", moof(traf(1, each((KEY, 0)))), (True, AT, AT)),
    ("delta", moof(traf(1, each((DELTA, 9)))), (False, AT + 9, AT + 9)),
    ("sound", moof(traf(2, each((KEY, 0)))), None),
    ("sound, then a key", moof(traf(2, each((KEY, 0))), traf(1, each((KEY, 0)))), (True, AT, AT)),
    ("B-frames", moof(traf(1, each((KEY, 3600), (DELTA, 10_800), (DELTA, 0), (DELTA, -3600)))), (True, AT + 3600, AT + 14_400)),
    ("a short tfdt", moof(traf(1, each((KEY, 0)), tfdt=full(b"tfdt", 0, 7))), (True, 7, 7)),
    ("flags of the first sample", moof(traf(1, full(b"trun", 0x5, 1, 100, KEY))), (True, AT, AT)),
    ("flags of the first sample, durations", moof(traf(1, full(b"trun", 0x105, 2, 100, KEY, 50, 60))), (True, AT, AT + 50)),
    ("defaults", moof(traf(1, full(b"trun", 0x1, 3, 100), full(b"tfhd", 0x2003A, 1, 1, 3600, 20, KEY))), (True, AT, AT + 7200)),
    ("flags of a delta by default", moof(traf(1, full(b"trun", 0x1, 1, 100), full(b"tfhd", 0x20020, 1, DELTA))), (False, AT, AT)),
    ("no flags at all", moof(traf(1, full(b"trun", 0x1, 1, 100))), (False, AT, AT)),
    ("behind a styp", box(b"styp", b"msdh\0\0\0\0") + moof(traf(1, each((KEY, 0)))), (True, AT, AT)),
    ("init", box(b"ftyp", b"iso5") + box(b"moov", b"\0" * 50), None),
    ("cut", moof(traf(1, each((KEY, 0))))[:60], None),
    ("no samples", moof(traf(1, full(b"trun", TRUN_ALL, 0, 100))), None),
    ("more samples than there are", moof(traf(1, full(b"trun", TRUN_ALL, 1 << 31, 100, 1, 2, 3, 4))), None),
    ("a trun of nothing", moof(traf(1, box(b"trun"))), None),
    ("a box of nothing", struct.pack(">I4s", 0, b"moof") + b"\0" * 40, None),
    ("empty", b"", None),
])
def test_what_a_fragment_brings(page: Page, name: str, fragment: bytes, brings: tuple[bool, int, int] | None) -> None:
    script = """async (bytes) => {
        const found = (await import('/fragment.js')).pictures(Uint8Array.from(bytes));
        return found && [found.key, found.first, found.newest];
    }"""
    assert page.evaluate(script, list(fragment)) == (brings and list(brings)), name


def test_the_timescale_of_an_init_segment(page: Page) -> None:
    script = "async (bytes) => (await import('/fragment.js')).timescale(Uint8Array.from(bytes))"
    entry = SampleEntry("avc1", b"\1\x64\0\x1f\xff\xe1\0\0\1\0\0", 12_800, 640, 360)
    assert page.evaluate(script, list(init_segment([FragmentTrack((entry,), 12_800)], 0))) == 12_800
    short = box(b"moov", box(b"trak", box(b"mdia", full(b"mdhd", 0, 1, 2, 90_000, 4))))
    assert page.evaluate(script, list(short)) == 90_000
    for wrong in (b"", box(b"moov"), box(b"moov", box(b"trak", box(b"mdia", box(b"mdhd", b"\0" * 6))))):
        assert page.evaluate(script, list(wrong)) == 0


def test_acknowledgements_come_at_each_quarter_of_the_credit(page: Page) -> None:
    sent = page.evaluate("""async () => {
        const { Connection } = await import('/connection.js');
        const sent = [];
        const real = window.WebSocket;
        window.WebSocket = class extends EventTarget {
            static OPEN = 1;
            readyState = 1;
            send(text) { sent.push(JSON.parse(text)); }
        };
        const connection = new Connection(() => {});
        window.WebSocket = real;
        connection.subscribe(4, { credit: 1000 }, {});
        for (let n = 0; n < 7; n += 1) connection.acknowledge(4, 100);
        connection.acknowledge(5, 9999);
        connection.unsubscribe(4);
        connection.acknowledge(4, 9999);
        return sent.filter(({ op }) => op === 'ack');
    }""")
    assert sent == [{"op": "ack", "tile": 4, "bytes": 300}, {"op": "ack", "tile": 4, "bytes": 300}]


def test_the_live_edge_is_kept_by_rate_and_jump_and_gives_way_to_jitter(page: Page) -> None:
    found = page.evaluate("""async () => {
        const { LiveEdge } = await import('/edge.js');
        const edge = new LiveEdge();
        const first = edge.target;
        const near = edge.steer(first, 0), behind = edge.steer(first + 0.3, 0), far = edge.steer(first + 0.51, 0);
        const late = edge.steer(-0.01, 2000), after = edge.target;
        edge.steer(-0.01, 2999);
        const once = edge.target;
        edge.waited(3000);
        const twice = edge.target;
        for (let n = 4; n < 50; n += 1) edge.steer(-0.01, n * 1000);
        const most = edge.target;
        for (let n = 5; n < 100; n += 1) edge.steer(most, n * 11_000);
        return { first, near, behind, far, late, after, once, twice, most, least: edge.target };
    }""")
    assert (found["near"], found["behind"], found["far"]) == ({"rate": 1}, {"rate": 1.05}, {"jump": True})
    assert found["late"] == {"rate": 0.95}
    assert found["first"] < found["after"] == found["once"] < found["twice"] < 0.2
    assert found["most"] == 1 and found["least"] < found["first"]


def test_the_age_of_a_picture_in_words(page: Page) -> None:
    words = page.evaluate("""async () => {
        const { lastWords } = await import('/words.js');
        const last = new Date().setHours(0, 0, 0, 0);
        return [lastWords(last, last + 180_000), lastWords(0, last), lastWords(NaN, last)];
    }""")
    assert words[0].startswith("last picture ") and words[0].endswith(", 3 min ago")
    assert words[1:] == ["", ""]
