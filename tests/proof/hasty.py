"""`watchroom` whose retired chunks wait two seconds for foreign readers instead of a minute, so that a small ring comes round quickly.

`python -m tests.proof.hasty serve --config FILE`; the processes that it starts are of the same kind.
"""

import functools
import os
import sys

from recorder import rack, supervisor
from recorder.__main__ import main
from storage.slot import Slot

QUARANTINE_S = 2.0


def own_command(*arguments: str) -> tuple[str, ...]:
    """The command line that runs this module."""
    return (sys.executable, "-m", "tests.proof.hasty", *arguments, "--parent", str(os.getpid()))


if __name__ == "__main__":
    rack.Slot = functools.partial(Slot, quarantine_s=QUARANTINE_S)  # type: ignore[misc, assignment]
    supervisor.Supervisor.__init__.__kwdefaults__["command"] = own_command
    sys.exit(main())
