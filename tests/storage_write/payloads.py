"""AUs whose bytes say whose they are, wherever a piece of one is found."""

import hashlib

SEED = 32       # an AU repeats so many bytes


def seed_of(camera: int, number: int) -> bytes:
    """What AU `number` of a camera repeats."""
    return hashlib.blake2b(f"{camera}/{number}".encode(), digest_size=SEED).digest()


def payload(camera: int, number: int, size: int) -> bytes:
    """No two AUs have the same."""
    return (seed_of(camera, number) * (size // SEED + 1))[:size]


def first_turned(seed: bytes) -> bytes:
    """The same for all rotations of a seed: a sector or page may begin anywhere in it."""
    twice = seed + seed
    return min(twice[n:n + SEED] for n in range(SEED))
