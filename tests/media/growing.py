"""A track that grows picture by picture, as while it is recorded."""

from typing import Any

from recorder.base.media import NS


class Growing:
    """Pictures of `stream` that come when they are sent, a row per access point; the first is at UTC `start_ns`."""

    def __init__(self, track: Any, maker: Any, stream: Any, start_ns: int) -> None:
        self.track, self.sent = track, 0
        self._maker, self._stream, self._start_ns = maker, stream, start_ns

    def send(self, count: int) -> None:
        """The next pictures. Each is visible with its own length, as all are."""
        for _ in range(count):
            au = self._stream.aus[self.sent]
            if au.key and self.track.open is not None:
                self.track.close_row()
            if self.sent:
                self._grow(au)
            else:
                self._maker.write(self.track, self._stream, close=False, stop=1, durable=False, t_ns=self._start_ns)
            self.sent += 1

    def _grow(self, au: Any) -> None:
        aus = self._stream.aus
        later = aus[self.sent + 1].dts if self.sent + 1 < len(aus) else au.dts + self._stream.dur
        self.track.volume.data[:] = [au.data]
        t_ns = self._start_ns + (au.pts - aus[0].pts) * NS // self._stream.entry.clock_rate
        self.track.grow([self._maker.RefAu(len(au.data), later - au.dts, au.pts - au.dts, int(au.key) | 2 * au.leading)], t_ns=t_ns)
