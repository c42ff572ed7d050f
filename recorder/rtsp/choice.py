"""Which transport the next try of a stream asks for.

A changed transport is a whole new connection: some cameras want DESCRIBE before each SETUP.
"""

_ORDER = {"tcp": ("tcp",), "auto": ("tcp", "udp"), "udp": ("udp", "tcp"), "multicast": ("multicast", "tcp")}


class TransportChoice:
    """What a stream is set to, and what its camera has taught us; lasts as long as the stream.

    A transport that worked is asked for again, even when it was not the first: a camera that is silent over UDP stays on TCP.
    """

    def __init__(self, wanted: str) -> None:
        self._order = _ORDER[wanted]
        self._at = 0
        self._refused: set[str] = set()

    @property
    def current(self) -> str:
        """tcp, udp or multicast."""
        return self._order[self._at]

    @property
    def may_be_tcp(self) -> bool:
        """True if TCP may be asked for instead and has not been refused."""
        return "tcp" in self._order and "tcp" not in self._refused

    def prefer_tcp(self) -> None:
        """What the camera describes does better over TCP."""
        self._at = self._order.index("tcp")

    def refused(self) -> bool:
        """The camera refuses the current transport. True: another one is to be tried at once; False: it has refused all of them."""
        self._refused.add(self.current)
        left = [name for name in self._order if name not in self._refused]
        if not left:
            self._refused.clear()
        self._at = self._order.index(left[0]) if left else 0
        return bool(left)

    def silent(self) -> None:
        """Nothing came after PLAY: the next try asks for the next transport."""
        self._at = (self._at + 1) % len(self._order)
