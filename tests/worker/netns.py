"""A camera network: a network namespace with one address, and a cable to it from this one. Needs root, as the tests of file systems do."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

OURS, THEIRS, NETWORK = "10.199.77.1", "10.199.77.2", "10.199.77.0/24"
NAME, NEAR, FAR = "wrcam", "wrcam0", "wrcam1"


@contextmanager
def camera_network() -> Iterator[list[str]]:
    """The beginning of a command that runs in it."""
    _remove()
    try:
        for words in (f"netns add {NAME}", f"link add {NEAR} type veth peer name {FAR} netns {NAME}", f"addr add {OURS}/24 dev {NEAR}",
                      f"link set {NEAR} up", f"-n {NAME} addr add {THEIRS}/24 dev {FAR}", f"-n {NAME} link set {FAR} up",
                      f"-n {NAME} link set lo up", f"-n {NAME} route add 224.0.0.0/4 dev {FAR}"):
            subprocess.run(["ip", *words.split()], check=True)
        yield ["ip", "netns", "exec", NAME]
    finally:
        _remove()


def _remove() -> None:
    for words in (f"link del {NEAR}", f"netns del {NAME}"):
        subprocess.run(["ip", *words.split()], check=False, stderr=subprocess.DEVNULL)
