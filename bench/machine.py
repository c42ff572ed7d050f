"""What a measurement must say about the machine, and CPU time of processes from /proc."""

import contextlib
import os
import platform
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


def process_tree(pid: int) -> list[int]:
    """The process and all its living descendants."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = task.read_text().split()
        except OSError:
            continue
        for child in children:
            found += process_tree(int(child))
    return found


def cpu_ns(pid: int) -> int:
    """CPU time of all threads of a process, exited ones included (schedstat of the living; /proc/PID/stat where it says more)."""
    total = 0
    for path in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        try:
            total += int(path.read_text().split()[0])
        except OSError:   # the thread has just ended
            continue
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    ticks_ns = (int(fields[11]) + int(fields[12])) * 1_000_000_000 // TICKS
    return max(total, ticks_ns - 2_000_000_000 // TICKS)


def allow_files(count: int) -> int:
    """Let this process and its children open `count` files, as far as the system lets us; how many they may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for limits in ((max(soft, count), max(hard, count)), (hard, hard)):       # the first only if we may raise the hard limit
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            break
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


@contextlib.contextmanager
def orderly() -> Iterator[None]:
    """SIGTERM ends the block as Ctrl-C does: what the block has started is ended, what was recorded is removed."""
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


BUFFERS = "/memfd:watchroom-au"     # the queues' memory (recorder/_ext/auqueue.pyx)


@dataclass(frozen=True, slots=True)
class Memory:
    """Memory of some processes. `pss_kb`: shared pages are shared out; `private_kb`: what nobody else maps, without the queues' buffers,
    whose size is the operator's choice (`buffer_s`); `buffer_kb`: those."""

    pss_kb: int
    private_kb: int
    buffer_kb: int


def memory(pids: Iterable[int]) -> Memory:
    """Now."""
    pss = private = buffer = 0
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/smaps").read_text().splitlines()
        except OSError:
            continue
        of_queue = False
        for line in lines:
            name, _, rest = line.partition(":")
            if "-" in name:                     # the head of a mapping: addresses, rights, ..., path
                of_queue = BUFFERS in line
            elif name == "Pss":
                pss += int(rest.split()[0])
                buffer += int(rest.split()[0]) if of_queue else 0
            elif name in {"Private_Clean", "Private_Dirty"} and not of_queue:
                private += int(rest.split()[0])
    return Memory(pss, private, buffer)


def memory_kb(pids: Iterable[int]) -> int:
    """Proportional set size of processes (shared pages are shared out)."""
    return memory(pids).pss_kb


def steal_s() -> float:
    """CPU seconds that the host has taken from this machine since boot, over all CPUs."""
    return int(Path("/proc/stat").read_text().split("\n", 1)[0].split()[8]) / TICKS


def busy_s(core: int) -> float:
    """CPU seconds that a core has worked since boot (user, nice, system, interrupts), for whomever; sampled by the tick."""
    line = next(line for line in Path("/proc/stat").read_text().splitlines() if line.startswith(f"cpu{core} "))
    user, nice, system, _idle, _wait, irq, softirq = map(int, line.split()[1:8])
    return (user + nice + system + irq + softirq) / TICKS


def pressing_s() -> float:
    """CPU seconds that all cores have worked since boot, for whomever, but for work that waits for all other (nice)."""
    fields = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:8]]
    return (fields[0] + fields[2] + fields[5] + fields[6]) / TICKS


@dataclass(frozen=True, slots=True)
class Sample:
    """CPU time of some processes, and of everybody on the core, at a moment."""

    mono_s: float
    cpu_s: float
    steal_s: float
    busy_s: float


def sample(pids: Iterable[int], core: int = 0) -> Sample:
    """Now. Processes that have ended count as nothing: compare the lists."""
    alive = [pid for pid in pids if Path(f"/proc/{pid}/stat").exists()]
    return Sample(time.monotonic(), sum(cpu_ns(pid) for pid in alive) / 1e9, steal_s(), busy_s(core))


def describe(folder: Path) -> dict[str, str]:
    """Machine and versions, for a report. `folder`: where footage is written."""
    model = next((line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")), "")
    ffmpeg = subprocess.run(["ffmpeg", "-version"], capture_output=True, text=True, check=False).stdout.split("\n", 1)[0]
    return {"date": time.strftime("%Y-%m-%d", time.gmtime()), "cpu": f"{os.cpu_count()} x {model or platform.machine()}",
            "kernel": platform.release(), "file_system": _file_system(folder), "python": platform.python_version(),
            "uvloop": metadata.version("uvloop"), "ffmpeg": " ".join(ffmpeg.split()[2:3]), "commit": _commit()}


def _file_system(folder: Path) -> str:
    done = subprocess.run(["df", "--output=fstype", str(folder)], capture_output=True, text=True, check=False)
    return (done.stdout.split() or ["?"])[-1]


def _commit() -> str:
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip()
