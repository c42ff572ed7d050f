"""The oracle of recorder/_ext/reorder: the dts is what leaves a heap D pictures deep."""

import heapq
from collections.abc import Sequence


def needed_depth(pts: Sequence[int]) -> int:
    """Most pictures that stand before another in decoding and after it in output (max_num_reorder_frames, H.264 E.2.1)."""
    return max((sum(earlier > p for earlier in pts[:i]) for i, p in enumerate(pts)), default=0)


def decode_times(pts: Sequence[int], depth: int, step: int) -> list[int]:
    """The dts of each pts in decode order, for a depth that suffices."""
    heap: list[int] = []
    out: list[int] = []
    for p in pts:
        heapq.heappush(heap, p)
        dts = heapq.heappop(heap) if len(heap) > depth else heap[0] - (depth + 1 - len(heap)) * step
        out.append(max(dts, out[-1] + 1) if out else dts)
    return out
