"""What a replay sends, over all that footage may be: ONVIF Streaming 6, without a network."""

import random

import pytest

from api.footage import load
from api.replay.ask import Rejected, range_text
from recorder.base.media import NS
from tests.media.replays import played
from tests.media.test_random_footage import site

__all__ = ["site"]


class Truth:
    """What a camera's tape has, in decode order, worked out AU by AU."""

    def __init__(self, site, camera):
        reader = site.store.track(camera.number, "main")
        footage = load(reader, reader.rows_from(reader.edges().first_row, 1000))
        self.number, self.aus, rows = camera.number, [], footage.run.rows
        for au in range(len(footage)):
            row = int(footage.row[au])
            first = au == 0 or int(footage.row[au - 1]) != row
            begins = first and bool(footage.breaks[row])
            self.aus.append((int(footage.wall_ns[au]), bool(footage.key[au]), bool(footage.leading[au]), begins, row))
        self.ends = [int(row["t_ns"]) + int(row["wall_dur_us"]) * 1000 for row in rows]
        self.begin_ns, self.end_ns = self.aus[0][0], self.ends[-1]

    def sections(self):
        """Lists of indices."""
        out = []
        for index, au in enumerate(self.aus):
            if au[3]:
                out.append([])
            out[-1].append(index)
        return out

    def start(self, time_ns):
        """Index of the access point that forward play of a time begins with. The camera is recorded: just behind the end is the newest."""
        time_ns = self.end_ns - 1 if self.end_ns <= time_ns else time_ns
        for section in self.sections()[::-1]:
            if self.covers(section, time_ns):
                return [index for index in section if self.aus[index][1] and self.aus[index][0] <= time_ns][-1]
        later = [index for index, au in enumerate(self.aus) if au[1] and au[0] >= time_ns]
        return min(later, key=lambda index: self.aus[index][0], default=None)

    def covers(self, section, time_ns):
        """True if a time lies in a section."""
        return self.aus[section[0]][0] <= time_ns < self.ends[self.aus[section[-1]][4]]

    def groups(self):
        """Picture groups as (indices without leading ones, begins a section behind a hole)."""
        out = []
        for number, section in enumerate(self.sections()):
            before = self.sections()[number - 1] if number else None
            hole = before is None or self.aus[section[0]][0] - self.ends[self.aus[before[-1]][4]] > 10_000_000
            for index in section:
                if self.aus[index][1]:
                    out.append(([], hole and index == section[0]))
                if not self.aus[index][2]:
                    out[-1][0].append(index)
        return out

    def forward(self, time_ns, end_ns):
        """(UTC, clean, end, jump, last) of what is sent of [time, end)."""
        start = self.start(time_ns)
        if start is None or self.aus[start][0] >= end_ns:
            return []
        out, fresh, skipping = [], True, True
        whole = [index for index in range(start, len(self.aus)) if self.aus[index][0] < end_ns]
        for index in range(start, whole[-1] + 1):
            wall, key, leading, begins, _ = self.aus[index]
            if begins and index != start:
                hole = wall - self.ends[self.aus[index - 1][4]]
                out[-1][2] |= hole > 10_000_000
                fresh = skipping = True
            elif key and not fresh:
                skipping = False
            if leading and skipping:
                continue
            out.append([wall, key, False, fresh, False])
            fresh = False
        following = whole[-1] + 1
        if following < len(self.aus) and self.aus[following][3]:
            out[-1][2] |= self.aus[following][0] - self.ends[self.aus[whole[-1]][4]] > 10_000_000
        out[-1][4] = True
        return [tuple(one) for one in out]

    def backward(self, time_ns, end_ns):
        """The same of what is sent from a time back to an earlier one."""
        out, later = [], time_ns + 1
        for whole, first in self.groups()[::-1]:
            if self.aus[whole[0]][0] >= later or (out and out[-1][4]):
                continue
            last = max(number for number, index in enumerate(whole) if self.aus[index][0] < later)
            indices = whole[:last + 1]
            part = [[self.aus[index][0], self.aus[index][1], False, number == 0, False] for number, index in enumerate(indices)]
            part[-1][2], part[-1][4] = first, part[0][0] <= end_ns
            out += part
            later = part[0][0]
        if out and out[-1][0] <= self.aus[self.groups()[0][0][-1]][0]:
            out[-1][2] = out[-1][4] = True
        return [tuple(one) for one in out]


def said(units):
    return [(unit.wall_ns, unit.clean, unit.end, unit.jump, unit.last) for unit in units]


def unpaced(start_ns, end_ns=None, **more):
    return {"range": range_text(start_ns, end_ns), "rate-control": "no", **more}


def a_time(dice, truth):
    """Some time: in footage, at a picture, a nanosecond beside one, in a gap, before and after everything."""
    wall = dice.choice(truth.aus)[0]
    return dice.choice((wall, wall - 1, wall + 1, dice.randrange(truth.begin_ns - NS, truth.end_ns + NS), dice.choice(truth.ends)))


async def seek(site, count, seed):
    """How many of `count` random seeks played something, and how many of these were to a time that footage covers."""
    dice, truths = random.Random(seed), [Truth(site, camera) for camera in site.cameras]
    begun = inside = 0
    for number in range(count):
        truth = dice.choice(truths)
        time_ns = a_time(dice, truth)
        end_ns = time_ns + dice.randrange(1, NS)
        expected = truth.forward(time_ns, end_ns)
        try:
            client = await played(site.media, truth.number, unpaced(time_ns, end_ns))
        except Rejected as error:
            assert (error.status, expected) == (457, []), (seed, number)
            continue
        assert said(client.of()) == expected, (seed, number, time_ns - truth.begin_ns)
        first, covered = client.of()[0], any(truth.covers(section, time_ns) for section in truth.sections())
        assert first.clean
        assert first.jump
        assert first.wall_ns <= time_ns or not covered
        begun, inside = begun + 1, inside + covered
    return begun, inside


async def rewind(site, count, seed):
    """`count` random ranges backwards of each camera, the first of them all that there is."""
    dice = random.Random(seed)
    for camera in site.cameras:
        truth = Truth(site, camera)
        for number in range(count):
            time_ns = a_time(dice, truth) if number else truth.end_ns
            end_ns = time_ns - dice.randrange(1, 8 * NS) if number else truth.begin_ns
            expected = truth.backward(time_ns, end_ns)
            try:
                client = await played(site.media, camera.number, unpaced(time_ns, end_ns, scale="-1.0"))
            except Rejected as error:
                assert (error.status, expected) == (457, []), (seed, number)
                continue
            assert said(client.of()) == expected, (seed, number, time_ns - truth.begin_ns, end_ns - truth.begin_ns)


async def test_a_thousand_seeks_begin_at_a_clean_point_at_or_before_the_time(site):
    begun, inside = await seek(site, 1000, 61)
    assert begun > 700
    assert inside > 500


async def test_backwards_groups_come_in_reverse_and_their_pictures_in_order(site):
    await rewind(site, 40, 62)


async def test_all_of_a_recording_forwards(site):
    for camera in site.cameras:
        truth = Truth(site, camera)
        client = await played(site.media, camera.number, unpaced(truth.begin_ns, truth.end_ns))
        assert said(client.of()) == truth.forward(truth.begin_ns, truth.end_ns)
        assert sum(unit.end for unit in client.of()) >= 1
        assert [unit.last for unit in client.of()] == [False] * (len(client.of()) - 1) + [True]


@pytest.mark.soak
async def test_many_random_seeks_and_rewinds(site, questions, seed):
    await seek(site, 10 * questions, seed)
    await rewind(site, questions, seed)
