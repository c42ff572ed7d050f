"""A track whose queue is checked and emptied after every call: what must hold whatever bytes came."""

import random

import rtpkit
from rtpkit import WALL

from recorder._ext.auqueue import AuQueue
from recorder._ext.crc32c import crc32c
from recorder._ext.rtp import RtpTrack

CODECS = ["h264", "h265", "aac", "pcma"]
CLOCK = {"h264": 90000, "h265": 90000, "aac": 48000, "pcma": 8000, "jpeg": 90000, "metadata": 90000, "latm": 16000, "l16": 16000,
         "opus": 48000, "g726-24": 8000, "aal2-g726-40": 8000}
FORMATS_MAX = 65535


class Watched:
    """One session of one track, with odd sizes and options by `rng`."""

    def __init__(self, codec: str, rng: random.Random) -> None:
        self.codec = codec
        self.queue = AuQueue(rng.choice([4096, 1 << 14, 1 << 18]), rng.choice([2, 64]))
        self.track = RtpTrack(self.queue, codec, CLOCK[codec], [96], 3, reorder_depth=rng.choice([-1, 0, 2]),
                              ceiling_bps=rng.choice([0, 0, 300_000]), floor_wall_ns=WALL)
        self.last_dts: int | None = None
        self.crc = 0
        self.pos = 0
        self.taken = 0

    def check(self) -> None:
        """AUs are whole, in order and add up; counters agree; nothing grows beyond its bound."""
        assert 0 <= self.queue.waiting_bytes <= self.queue.capacity
        for au, data in self.queue.take():
            assert self.last_dts is None or au["dts"] > self.last_dts
            self.last_dts = au["dts"]
            self.crc = crc32c(data, self.crc)
            assert (au["crc"], au["pos"], au["nbytes"]) == (self.crc, self.pos, len(data))
            self.pos += len(data)
            self.taken += 1
            assert au["session"] == 3
            assert au["wall_ns"] >= WALL
            if self.codec == "jpeg":
                assert data[:2] == b"\xff\xd8"
            if self.codec.startswith("h26"):
                assert all(nal for nal in rtpkit.split(data))
                assert 1 <= au["format"] <= self.track.stats()["formats"]
        stats = self.track.stats()
        assert stats["aus"] == self.taken
        assert stats["key_aus"] <= stats["aus"]
        assert stats["damaged_aus"] <= stats["aus"]
        assert stats["overload_aus"] == self.queue.dropped_aus
        assert 0 <= stats["formats"] <= FORMATS_MAX
        assert stats["reorder_depth"] <= 16
        assert all(value >= 0 for name, value in stats.items() if name not in {"ssrc", "reorder_depth", "last_pts"})

    def finish(self) -> None:
        """The session ends: nothing is left behind."""
        self.track.flush()
        self.check()
        assert self.queue.waiting_bytes == 0

    def behaviour(self) -> tuple[int, ...]:
        """What it did, coarsely: the counters' magnitudes."""
        names = ("packets", "lost", "duplicates", "restarts", "malformed", "unknown_pt", "foreign_ssrc", "dropped_nals", "aus", "key_aus",
                 "damaged_aus", "early_aus", "overload_aus", "broken_aus", "restamped", "discontinuities", "formats", "reorder_depth")
        stats: dict[str, int] = dict(self.track.stats())  # type: ignore[arg-type]
        return (*(max(stats[name], 0).bit_length() for name in names), self.track.take_events())
