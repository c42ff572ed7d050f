"""Which AUs of a track are sent: all, without B pictures that nothing refers to, or access points alone (ONVIF Streaming 6.5.3)."""

from collections.abc import Awaitable, Callable

from api.replay.ask import Frames
from api.replay.shot import Shot

Read = Callable[[memoryview, Shot, int], Awaitable[None]]
NALS_MAX = 32                 # of a picture that are looked at; behind so many it counts as one that is referred to
_H264_SLICES = range(1, 6)
_H265_PLAIN = range(16)       # trailing and leading pictures; of these the even types are referred to by none of their layer


class Thin:
    """Says of each AU in decode order whether it is sent. `read(view, shot, skip)` fills a view with bytes of the AU from `skip` on."""

    def __init__(self, frames: Frames, interval_ns: int, read: Read) -> None:
        self._frames, self._interval_ns, self._read = frames, interval_ns, read
        self._last_ns: int | None = None      # UTC of the newest access point that was sent
        self._top_pts = 0                     # the latest presentation time since the newest access point

    async def keeps(self, shot: Shot) -> bool:
        """True if it is sent. Raises what reading raises."""
        if self._frames is Frames.ALL:
            return True
        if self._frames is Frames.INTRA:
            return self._intra(shot)
        if shot.key or shot.pts > self._top_pts:
            self._top_pts = shot.pts
            return True
        return await self._referred(shot)

    def _intra(self, shot: Shot) -> bool:
        far = self._last_ns is None or abs(shot.wall_ns - self._last_ns) >= self._interval_ns
        if shot.key and far:
            self._last_ns = shot.wall_ns
        return shot.key and far

    async def _referred(self, shot: Shot) -> bool:
        """False if no other picture may refer to it: nal_ref_idc 0 (H.264 7.4.1), a sub-layer non-reference picture (H.265 table 7-1)."""
        if shot.entry.codec not in {"avc1", "hvc1"}:
            return True
        head, at = bytearray(5), 0
        for _ in range(NALS_MAX):
            if at + len(head) > shot.size:
                break
            await self._read(memoryview(head), shot, at)
            kind = head[4] & 31 if shot.entry.codec == "avc1" else head[4] >> 1 & 63
            if shot.entry.codec == "avc1" and kind in _H264_SLICES:
                return bool(head[4] & 0x60)
            if shot.entry.codec == "hvc1" and kind < 32:
                return kind not in _H265_PLAIN or kind % 2 == 1
            at += 4 + int.from_bytes(head[:4])
        return True
