"""The writer's file operations, numbered, so that a test can stop, copy or kill at each of them (docs/storage-format.md, "Steps").

`step(n)` costs one global read while no test has set `hook`. The hook runs on the thread that does the operation, right after it.
"""

import enum
from collections.abc import Callable


class Step(enum.IntEnum):
    """What has just been done. The numbers are not stored anywhere."""

    PASS = 1                # the writer's pass: chunk bytes, then live, then ring pages
    RECORD_BUILT = 2        # a record exists in memory only
    JOURNAL_WRITTEN = 3     # the record is in the page cache
    SYNCED = 4              # syncfs has returned
    MARKED_LIVE = 5         # the durable marks in the live file have moved
    MARKED_INDEX = 6        # the shard indexes name the newly full inner chunks
    POOL_CREATED = 7        # a new chunk file exists under a temporary name
    POOL_FILLED = 8         # its extents are written
    POOL_ADDED = 9          # it has been renamed into the pool
    HEAD_TAKEN = 10         # a pool file's head names its next track and chunk
    RENAMED_TAKEN = 11      # it lies at its place in the array
    SWITCHED = 12           # the tape writes into it
    PADDED = 13             # sealing: the last inner chunk's rest is zero
    FOOTER_WRITTEN = 14
    SEALED = 15             # the head says so, with index and digest
    TAIL_MOVED = 16         # the tail is in the live file and in the record to come
    QUARANTINED = 17        # a retired chunk has been renamed
    CLEARED = 18            # its head names no track any more
    POOLED = 19             # it has been renamed into the pool
    SEGMENT_CREATED = 20
    SEGMENT_RECYCLED = 21
    RING_GROWN = 22         # the larger ring exists under a temporary name
    RING_RENAMED = 23
    TRACK_CREATED = 24      # folders, zarr.json, rings of a new track
    RECOVERED_ZERO = 25     # recovery: the skipped stretch is zero
    RECOVERED_RINGS = 26
    RECOVERED_FILES = 27    # half-taken and retired files are where they belong
    HELD_WRITTEN = 28       # what a hold keeps of a chunk is durable under a temporary name
    HELD_NAMED = 29         # it has taken its place


hook: Callable[[Step], None] | None = None


def step(number: Step) -> None:
    """Tell the test that armed `hook`, if any."""
    if hook is not None:
        hook(number)
