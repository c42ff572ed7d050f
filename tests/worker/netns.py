"""A camera network: a network namespace with one address, and a cable to it from this one. Needs root, as the tests of file systems do."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CameraNetwork:
    """Number `lane` of them: tests that run side by side have different ones."""

    lane: int

    @property
    def network(self) -> str:
        """Its addresses, as a prefix."""
        return f"10.199.{self.lane}.0/24"

    @property
    def camera(self) -> str:
        """The camera's address."""
        return f"10.199.{self.lane}.2"

    @property
    def inside(self) -> list[str]:
        """The beginning of a command that runs in it."""
        return ["ip", "netns", "exec", f"wrcam{self.lane}"]

    def pull(self) -> None:
        """Pull the cable out, as far from us as can be: our end keeps its link and its route, as behind a switch."""
        self._ip(f"-n wrcam{self.lane} link set wrfar{self.lane} down")

    def plug(self) -> None:
        """Put it back; the route for groups went with the link."""
        self._ip(f"-n wrcam{self.lane} link set wrfar{self.lane} up", f"-n wrcam{self.lane} route replace 224.0.0.0/4 dev wrfar{self.lane}")

    def make(self) -> None:
        """Lay it."""
        space, near, far = f"wrcam{self.lane}", f"wrnear{self.lane}", f"wrfar{self.lane}"
        self._ip(f"netns add {space}", f"link add {near} type veth peer name {far} netns {space}",
                 f"addr add 10.199.{self.lane}.1/24 dev {near}", f"link set {near} up",
                 f"-n {space} addr add {self.camera}/24 dev {far}", f"-n {space} link set {far} up",
                 f"-n {space} link set lo up", f"-n {space} route add 224.0.0.0/4 dev {far}")

    def remove(self) -> None:
        """Away with it, if it is there."""
        self._ip(f"link del wrnear{self.lane}", f"netns del wrcam{self.lane}", check=False)

    def _ip(self, *commands: str, check: bool = True) -> None:
        for words in commands:
            subprocess.run(["ip", *words.split()], check=check, stderr=None if check else subprocess.DEVNULL)


@contextmanager
def camera_network(lane: int) -> Iterator[CameraNetwork]:
    """Camera network number `lane`, for as long as it is needed."""
    network = CameraNetwork(lane)
    network.remove()
    try:
        network.make()
        yield network
    finally:
        network.remove()
