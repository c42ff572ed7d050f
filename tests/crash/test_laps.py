"""A full ring goes round twenty times: recording never stops, nobody waits for a file, the oldest goes, free space stays as it is."""

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from aftermath import check_clean
from loopimage import make_image, mount, unmount
from rig import Camera, Rig, tape

from recorder._ext.auqueue import AuQueue
from recorder.base.media import TrackKind
from storage.disk import syncfs
from storage.events import Retired, Starved
from storage.layout import ChunkClass, class_of, track_path

LAPS = 20
STEADY_LAPS = 2                 # the supply of free files follows the rate of the last two minutes
BESIDE_BYTES = 2 << 20          # of other things than chunks: a journal segment more or less, the ledger, logs
CLOSE_BY = 3                    # chunks by which one track may be ahead of another where both lose the oldest


@dataclass
class Ring:
    """Two cameras on a volume of `files` chunk files, on a file system that holds little else; a chunk lasts two minutes."""

    point: Path
    live: Path
    kind: TrackKind
    files: int
    cameras: list[Camera] = field(default_factory=list)
    put: int = 0

    def __post_init__(self) -> None:
        self.size: ChunkClass = class_of(self.kind)
        self.rig = Rig(self.point / "volume", self.live, bytes_max=self.files * self.size.file_bytes)
        au_bytes = self.size.tape_bytes // 15
        for number in (1, 2):
            queue = AuQueue(1 << (8 * au_bytes).bit_length())      # what is put in a turn, and what the turn before left
            self.cameras.append(self.rig.track(number, "main", self.kind, queue=queue, fps=1, gop=1, size=au_bytes)[1])

    @property
    def laps(self) -> float:
        """How often the ring has been filled."""
        return self.put / (self.files * self.size.tape_bytes)

    def turn(self) -> None:
        """Half a minute: an AU each eight seconds from both."""
        for camera in self.cameras:
            for _ in range(4):
                camera.start_ns += 7_000_000_000       # each is a second long, and eight after the one before
                assert camera.put(1) == 1, "an AU found no room"
                self.put += len(camera.sent[-1])
            self.keep_few(camera)
        self.rig.clock.advance(32)
        self.rig.turn()
        self.rig.turn(commit=False)
        assert not any(work.starved for work in self.rig.slot._works.values()), "a tape waits for a file"

    def keep_few(self, camera: Camera) -> None:
        """Forget AUs that no ring of this size can still hold."""
        if len(camera.sent) > 40 * self.files:
            del camera.sent[:20 * self.files]

    def chunk_files(self) -> list[Path]:
        """All chunk files, wherever they are."""
        folders = [*(track_path(number, "main") + "/c" for number in (1, 2)), "slot-0/pool", "slot-0/quarantine"]
        return [file for folder in folders for file in (self.rig.path / folder).iterdir()]

    def space(self) -> int:
        """Bytes free in the file system."""
        syncfs(self.rig.volume.dir_fd)
        at = os.statvfs(self.point)
        return at.f_bfree * at.f_frsize


@pytest.fixture
def make_ring(tmp_path: Path) -> Iterator[Callable[[str, TrackKind, int], Ring]]:
    made: list[Ring] = []

    def make(system: str, kind: TrackKind, files: int) -> Ring:
        point, image = tmp_path / "mount", tmp_path / "image"
        make_image(image, system)
        mount(image, point)
        (point / "volume").mkdir()
        made.append(Ring(point, tmp_path / "live", kind, files))
        return made[-1]

    yield make
    for ring in made:
        if ring.rig.slot._lock_fd >= 0:
            ring.rig.close()
        unmount(ring.point)


@pytest.mark.disk
@pytest.mark.parametrize(("kind", "files"), [pytest.param(TrackKind.AUDIO, 24, id="small"),
                                             pytest.param(TrackKind.VIDEO, 20, id="large", marks=pytest.mark.soak)])
@pytest.mark.parametrize("system", ["ext4", "xfs"])
def test_twenty_laps_of_a_full_ring(make_ring: Callable[..., Ring], system: str, kind: TrackKind, files: int,
                                    record_property: Callable[[str, object], None]) -> None:
    ring = make_ring(system, kind, files)
    while ring.laps < STEADY_LAPS:
        ring.turn()
    full, space, off = len(ring.chunk_files()), ring.space(), 0
    looked = STEADY_LAPS
    while ring.laps < LAPS:
        ring.turn()
        assert len(ring.chunk_files()) == full, "files have come or gone"
        if ring.laps >= looked + 1:
            looked += 1
            off = max(off, abs(ring.space() - space))
    record_property("laps", round(ring.laps, 1))
    record_property("free space moved by, bytes", off)
    assert full == files
    assert off <= BESIDE_BYTES
    assert not any(isinstance(event, Starved) for event in ring.rig.events)
    assert sum(isinstance(event, Retired) for event in ring.rig.events) > (LAPS - STEADY_LAPS) * files
    check_oldest_went(ring)
    check_clean(ring.rig)


def check_oldest_went(ring: Ring) -> None:
    """What is left of each camera is its newest footage, and both lose theirs at the same age."""
    kept = [tape(ring.rig.path, ring.rig, camera.number) for camera in ring.cameras]
    for camera, left in zip(ring.cameras, kept, strict=True):
        assert left == camera.sent[-len(left):]
        assert ring.rig.core(camera.number).counts[3] == 0, "an AU was passed over"
    per_chunk = ring.size.tape_bytes // len(kept[0][0])
    assert abs(len(kept[0]) - len(kept[1])) <= CLOSE_BY * per_chunk
    assert sum(map(len, kept)) > (ring.files // 2) * per_chunk
