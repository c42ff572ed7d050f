"""Which track of a camera a tile shows, of those that its client can play: from their codings, their bit rates and the wish alone."""

from collections.abc import Sequence
from dataclasses import dataclass

from api.wish import Wish
from recorder.base.media import NS, SampleEntry

OVERSIZED = 2.0         # a picture of more pixels each way than that many of the tile's is decoded to be thrown away
STALE_NS = 30 * NS      # a track whose footage ends so long before the other's is no longer sent by the camera


@dataclass(frozen=True, slots=True)
class Offer:
    """A video track of the camera: the coding of its newest footage, what it takes now (kbit/s, 0: not known), where its footage ends (UTC)."""

    track: str
    entry: SampleEntry
    kbps: int = 0
    end_ns: int = 0


def choose(offers: Sequence[Offer], wish: Wish) -> Offer | None:
    """The track to show; None if the client can play none that it asked for.

    `auto` is the main track, unless there is a playable sub track and one of these holds: the tile is `small`; main takes more than `max_kbps`
    (and sub less than main); sub has at least the tile's pixels; main has more than twice the tile's, each way. A lone track is shown whatever
    it takes. Live, `auto` passes over a track that ended 30 s before the other one. `offers` may come in any order, at most one for each track.
    """
    playable = {offer.track: offer for offer in offers if offer.entry.codec in wish.play}
    if wish.track != "auto":
        return playable.get(wish.track)
    if wish.start_ns is None:
        newest_ns = max((offer.end_ns for offer in playable.values()), default=0)
        playable = {track: offer for track, offer in playable.items() if offer.end_ns > newest_ns - STALE_NS}
    main, sub = playable.get("main"), playable.get("sub")
    if main is None or sub is None:
        return main or sub
    return sub if wish.small or _too_fast(main, sub, wish) or _large_enough(main, sub, wish) else main


def _too_fast(main: Offer, sub: Offer, wish: Wish) -> bool:
    return wish.max_kbps is not None and sub.kbps < main.kbps and main.kbps > wish.max_kbps


def _large_enough(main: Offer, sub: Offer, wish: Wish) -> bool:
    """True if the tile loses nothing by sub, or would shrink main to less than half."""
    return wish.width > 0 and (_spread(sub.entry, wish) <= 1 or _spread(main.entry, wish) < 1 / OVERSIZED)


def _spread(entry: SampleEntry, wish: Wish) -> float:
    """Pixels of the tile for one of the picture, which is shown whole in it, its shape kept. Infinite where its size is not known."""
    return min(wish.width / entry.width, wish.height / entry.height) if entry.width and entry.height else float("inf")
