"""A replay goes over what holds have kept of a tape that has moved on, and then over the tape, forwards and backwards."""

from test_held_reading import held_rig, make_store
from test_holds import AUDIO

from api.replay.index import ahead, clean_point, groups_before
from recorder.base.media import NS

__all__ = ["make_store"]


def recorded(track):
    """UTC of all AUs in order, and of those that nothing leads up to."""
    walls, begins = [], []
    for piece in track.pieces(0, 1 << 62):
        times = piece.tape.entries(piece.run).wall_ns.tolist()
        if not walls or times[0] - walls[-1] > NS:
            begins.append(times[0])
        walls += times
    return walls, begins


def test_what_is_held_is_replayed_before_the_tape_and_holes_are_told(make_rig, make_store):
    rig, _ = held_rig(make_rig)
    store = make_store(rig)
    walls, begins = recorded(store.whole(1, AUDIO))
    assert len(begins) == 3
    end_ns = walls[-1]
    at, found, jumps = clean_point(store, 1, AUDIO, 0, end_ns), [], [walls[0]]
    for _ in range(10_000):
        step = ahead(store, 1, AUDIO, at, end_ns, end_ns)
        found += step.aus.wall_ns.tolist() if step.aus is not None else []
        if step.broken:
            assert step.hole
            jumps.append(step.after.time_ns)
        at = step.after
        if step.done or (step.edge and step.aus is None):
            break
    assert found == walls[:-1]
    assert jumps == begins


def test_what_is_held_is_replayed_backwards_behind_the_tape(make_rig, make_store):
    rig, _ = held_rig(make_rig)
    store = make_store(rig)
    walls, begins = recorded(store.whole(1, AUDIO))
    before_ns, found, firsts = walls[-1] + 1, [], []
    while before_ns is not None:
        step = groups_before(store, 1, AUDIO, before_ns)
        for group in step.groups:
            found += group.aus.wall_ns.tolist()
            firsts += [int(group.aus.wall_ns[0])] if group.first else []
        assert step.before_ns is None or step.before_ns < before_ns
        before_ns = step.before_ns
    assert found == walls[::-1]
    assert firsts == begins[::-1]


def test_a_seek_into_what_is_held_and_between(make_rig, make_store):
    rig, _ = held_rig(make_rig)
    store = make_store(rig)
    walls, begins = recorded(store.whole(1, AUDIO))
    second = walls.index(begins[1])
    for number in (0, 7, second - 1, second, second + 30, len(walls) - 1):
        at = clean_point(store, 1, AUDIO, walls[number] + 1, walls[-1])
        assert at.time_ns == walls[number]
    assert clean_point(store, 1, AUDIO, walls[second - 1] + 3 * NS, walls[-1]).time_ns == begins[1]
