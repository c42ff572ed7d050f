"""Calls for commands: to the running server over its socket, else on the catalogue itself."""

import asyncio
import os
import socket
from typing import Any

from recorder import preflight
from recorder.base.clock import SystemClock
from recorder.base.config import SiteConfig
from recorder.base.control import ControlClient
from recorder.base.errors import NotFound
from recorder.roster import Roster
from storage.catalogue import Catalogue

ANSWER_S = 15.0


def server_runs(site: SiteConfig) -> bool:
    """True if a supervisor listens on its socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(ANSWER_S)
        try:
            probe.connect(str(site.supervisor_socket))
        except OSError:
            return False
        return True


def call(site: SiteConfig, name: str, args: dict[str, Any] | None = None, *, answer_s: float = ANSWER_S) -> Any:
    """The result of a supervisor's call, whether it runs or not. Raises what the call raises."""
    if server_runs(site):
        return asyncio.run(ControlClient(site.supervisor_socket, timeout_s=answer_s).call(name, args))
    lock = preflight.make_state_dir(site)
    try:
        with Catalogue.open(site.catalogue, SystemClock(), write=True) as catalogue:
            roster = Roster(catalogue, site)
            roster.adopt_file()
            return roster.call(name, args or {}).result
    finally:
        os.close(lock)


def slot_status(site: SiteConfig, slot: int) -> dict[str, Any]:
    """What a slot's worker says of itself; empty if it does not run."""
    try:
        found = asyncio.run(ControlClient(site.slot_socket(slot), timeout_s=ANSWER_S).call("status"))
    except NotFound:
        return {}
    return found if isinstance(found, dict) else {}
