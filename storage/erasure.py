"""Which deleted chunks a file may still hold bytes of, from its retirement to the moment when nothing is left of them."""

from collections.abc import Callable
from dataclasses import dataclass, field

Deleted = tuple[int, str, int]      # camera, track, chunk


@dataclass(eq=False, slots=True)
class Past:
    """Deleted chunks whose bytes may lie in some files; `files` of them have not been overwritten yet.

    As a file's `past` it says that the file holds stale bytes; None: zeros only.
    """

    chunks: list[Deleted] = field(default_factory=list)
    files: int = 0

    @classmethod
    def of(cls, chunk: Deleted) -> "Past":
        """That of the one file that held the chunk."""
        return cls([chunk], 1)


class Erasure:
    """Tells when a past is over. After a start nobody knows which free file held what: those files share one past, `unknown`."""

    def __init__(self, on_erased: Callable[[list[Deleted]], None]) -> None:
        self._on_erased = on_erased
        self.unknown = Past()
        self._waiting: set[Deleted] = set()

    def begin(self, waiting: set[Deleted]) -> None:
        """Deleted chunks that were not erased when the slot was last open."""
        self._waiting = set(waiting)

    def found(self, chunk: Deleted) -> Past:
        """The past of a file that was found and says that it is this chunk."""
        if chunk in self._waiting:
            self._waiting.discard(chunk)
            return Past.of(chunk)
        return self.nameless()

    def nameless(self) -> Past:
        """The past of a file that was found and does not say what it held."""
        self.unknown.files += 1
        return self.unknown

    def settle(self) -> None:
        """Every file has been found: what no file names lies in one of the nameless, or nowhere any more."""
        self.unknown.chunks = sorted(self._waiting)
        self._waiting = set()
        if not self.unknown.files and self.unknown.chunks:
            self._on_erased(self.unknown.chunks)

    def overwritten(self, past: Past | None) -> None:
        """A file with this past holds nothing of it any more."""
        if past is None:
            return
        past.files -= 1
        if past.files == 0 and past.chunks:
            self._on_erased(past.chunks)
