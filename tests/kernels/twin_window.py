"""The reorder window in Python: what recorder/_ext/rtp.pyx and window.pyx do to a stream over UDP, on extended sequence numbers."""

from dataclasses import dataclass, field

WINDOW_PACKETS, WINDOW_NS, OPENING, LATE_MAX, DROPOUT_MAX, BACKWARDS_MAX = 512, 100_000_000, 64, 100, 3000, 64


@dataclass
class TwinWindow:
    """`used` are the packets in the order in which they were used."""

    used: list[int] = field(default_factory=list)
    lost: int = 0
    duplicates: int = 0
    restarts: int = 0
    _held: dict[int, int] = field(default_factory=dict)      # extended number -> arrival
    _newest: int | None = None
    _opening: bool = False
    _backwards: int = 0

    def packet(self, seq: int, mono_ns: int) -> None:
        """A packet has come."""
        if self._newest is None:
            self._newest, self._opening = seq - OPENING, True
        assert self._newest is not None
        while self._newest + 1 < seq:
            if seq in self._held:
                self.duplicates += 1
                return
            if seq <= self._newest + WINDOW_PACKETS:
                self._held[seq] = mono_ns
                return
            if not self._held:
                break
            self._give_up()
        if seq <= self._newest:
            if self._opening:
                self._give_up_all()
            self._late(seq)
            return
        self._use(seq)
        self._release()

    def tick(self, mono_ns: int) -> None:
        """All that has come by now has been given in."""
        while self._held and mono_ns - min(self._held.values()) >= WINDOW_NS:
            self._give_up()

    def end(self) -> None:
        """The session ends."""
        self._give_up_all()

    def _late(self, seq: int) -> None:
        self._backwards += 1
        assert self._newest is not None
        if self._newest - seq <= DROPOUT_MAX and self._backwards < BACKWARDS_MAX:
            self.duplicates += 1
            return
        self._give_up_all()
        self.restarts += 1
        self.used.append(seq)
        self._newest, self._backwards = seq, 0

    def _use(self, seq: int) -> None:
        assert self._newest is not None
        step = seq - self._newest
        if self._opening:
            self._opening = False
        elif step > DROPOUT_MAX:
            self.restarts += 1
        else:
            self.lost += step - 1
        self._newest, self._backwards = seq, 0
        self.used.append(seq)

    def _release(self) -> None:
        assert self._newest is not None
        while self._newest + 1 in self._held:
            del self._held[self._newest + 1]
            self._use(self._newest + 1)

    def _give_up(self) -> None:
        first = min(self._held)
        del self._held[first]
        self._use(first)
        self._release()

    def _give_up_all(self) -> None:
        while self._held:
            self._give_up()
