"""Simulated cameras and whole sites, each in processes of its own, as in life."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from bench.camsim.process import SimProcess
from bench.site import Site


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The session's folder of clips."""
    return tmp_path_factory.mktemp("proof-clips")


@pytest.fixture
def simulate(clips: Path) -> Iterator[Callable[..., SimProcess]]:
    """Start a simulation with camsim's options; it ends with the test."""
    running: list[SimProcess] = []

    def start(*options: str) -> SimProcess:
        running.append(SimProcess([*options, "--cache", str(clips)]).__enter__())
        return running[-1]

    yield start
    for sim in running:
        sim.close()


@pytest.fixture
def make_site(tmp_path: Path) -> Iterator[Callable[..., Site]]:
    """A `watchroom serve` for `cameras` (TOML lines by id), not yet started; it ends with the test."""
    made: list[Site] = []

    def make(cameras: dict[str, list[str]], *, bytes_max: int = 2 << 30, module: str = "recorder", recording: Sequence[str] = ()) -> Site:
        folder = tmp_path / f"site-{len(made)}"
        folder.mkdir()
        made.append(Site(folder, cameras, bytes_max=bytes_max, whole=True, module=module, recording=recording))
        return made[-1]

    yield make
    for site in made:
        site.stop()
        site.clean()
