"""A site in a temporary folder, with a volume, and stand-ins for its child processes."""

import socket
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from recorder.base.config import SiteConfig
from recorder.base.config_file import read_config
from storage.volume import Volume

WORKER = Path(__file__).with_name("stand_in.py")


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass(frozen=True, slots=True)
class Place:
    """A site's folder and configuration file."""

    folder: Path
    file: Path

    def site(self) -> SiteConfig:
        return read_config(self.file)

    def write(self, *more: str) -> None:
        """The configuration, with further lines at its end."""
        lines = ['name = "Test"', 'state_dir = "state"', "[server]", f"port = {self.port()}", "[[volume]]", 'path = "volume"', "on_root = true"]
        lines = ['name = "Test"', 'state_dir = "state"', "[server]", f"port = {self.port()}", "[[volume]]", 'path = "volume"', "on_root = true"]
        self.file.write_text("\n".join([*lines, *more]))

    def port(self) -> int:
        return int((self.folder / "port").read_text())

    def command(self, *arguments: str) -> tuple[str, ...]:
        """Children that do as workers and the API do, without media."""
        return (sys.executable, str(WORKER), str(self.folder), *arguments)


@pytest.fixture
def place() -> Iterator[Place]:
    # Control sockets' paths must stay below 108 bytes: tmp_path can be too long.
    with tempfile.TemporaryDirectory(prefix="wr-") as name:
        folder = Path(name)
        (folder / "port").write_text(str(free_port()))
        Volume.init(folder / "volume", on_root=True).close()
        made = Place(folder, folder / "site.toml")
        made.write()
        yield made
