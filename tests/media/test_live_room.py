"""What the tiles of one live connection may hold in memory together."""

import asyncio

from api.live import Room, Tile
from api.wish import Wish


async def test_a_thousand_tiles_do_not_hold_a_thousand_fragments() -> None:
    """Each had one of 2 MB in hand while one client took nothing: 6 GB."""
    room = Room(10)
    tiles = [Tile(number, Wish("north", credit=4), room) for number in range(1000)]
    takers = [asyncio.create_task(tile.take(5)) for tile in tiles]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert sum(taker.done() for taker in takers) == 2
    for tile, taker in zip(tiles, takers, strict=True):
        await taker
        tile.give_back()
    assert all(taker.done() for taker in takers)


async def test_a_fragment_larger_than_the_room_goes_alone() -> None:
    room = Room(10)
    first, second = Tile(1, Wish("north"), room), Tile(2, Wish("north"), room)
    await first.take(50)
    waiting = asyncio.create_task(second.take(1))
    await asyncio.sleep(0)
    assert not waiting.done()
    first.give_back()
    await waiting


async def test_a_tile_without_credit_keeps_no_room_from_the_others() -> None:
    room = Room(10)
    idle, other = Tile(1, Wish("north", credit=4), room), Tile(2, Wish("north"), room)
    await idle.take(10)
    idle.spend(10)
    idle.give_back()
    waiting = asyncio.create_task(idle.credit())
    await asyncio.wait_for(other.take(10), 120)
    assert not waiting.done()
    idle.acknowledge(10)
    await waiting
