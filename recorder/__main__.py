"""The command line `watchroom` (= `python -m recorder`): finds the command, runs it, and turns every error into one line and an exit code."""

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from typing import NoReturn, Protocol, cast

from recorder.base.errors import WatchroomError
from recorder.base.logs import one_line, redacted
from recorder.cli.exits import Exit, exit_of

COMMANDS = {
    "serve": "record, and serve what was recorded",
    "demo": "eight simulated cameras, a server and its page",
    "camera": "list, show, add and remove cameras",
    "retention": "show the rules, simulate others, read the ledger of deletions",
    "hold": "keep footage from retention, list holds, release them",
    "export": "have the server make files of footage, and fetch them",
    "clip": "save a stretch of a camera's footage as MP4",
    "check": "read a volume through and report what is wrong with it",
    "verify": "sign what a volume holds, or prove that it is still there",
    "volume": "make a volume, show what it is",
    "token": "make, list and revoke tokens for people and programs",
    "config": "check a configuration file and print what it sets",
    "camsim": "simulated cameras as an RTSP server",
    "bench": "measure",
    "version": "print the version",
}
HIDDEN = {"_worker": "process", "_api": "process", "_export": "process", "_sign": "process"}    # what `serve` starts


class Command(Protocol):
    """What a module of recorder/cli offers."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declares options and arguments."""

    def run(self, args: argparse.Namespace) -> int:
        """Does it; returns the exit code."""


class Parser(argparse.ArgumentParser):
    """argparse that says what is wrong in one line, as all other errors are said."""

    def error(self, message: str) -> NoReturn:
        """Ends the process with exit code 2."""
        say(f"{self.prog.partition(' ')[2] or 'arguments'}: {message}; see {self.prog} --help")
        sys.exit(Exit.USAGE)


def say(line: str) -> None:
    """The one line on stderr."""
    print("watchroom: " + redacted(" ".join(line.split())), file=sys.stderr, flush=True)


def usage() -> str:
    """What `watchroom --help` prints."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {text}" for name, text in COMMANDS.items()]
    return "\n".join(["usage: watchroom COMMAND [OPTIONS]", "", *lines, "", "watchroom COMMAND --help says more"])


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit code (docs/operations.md lists them)."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in {"-h", "--help", "help"}:
        print(usage())
        return Exit.OK if words else Exit.USAGE
    name = "version" if words[0] == "--version" else words[0]
    if name not in COMMANDS and name not in HIDDEN:
        say(f"{name}: no such command; known are {', '.join(COMMANDS)}")
        return Exit.USAGE
    return guarded(name, words[1:])


def guarded(name: str, words: list[str]) -> int:
    """Runs a known command; no exception leaves it."""
    try:
        command = cast(Command, importlib.import_module(f"recorder.cli.{HIDDEN.get(name, name)}"))
        parser = Parser(prog=f"watchroom {name}", description=COMMANDS.get(name))
        command.add_arguments(parser)
        parser.set_defaults(command=name)
        return command.run(parser.parse_args(words))
    except WatchroomError as error:
        say(str(error))
        return exit_of(error)
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())     # or the interpreter's last flush would complain
        return Exit.INTERRUPTED
    except OSError as error:
        say(f"{error.filename or name}: {error.strerror or error}; check the path and its permissions")
        return Exit.SYSTEM
    except Exception as error:
        if os.environ.get("WATCHROOM_TRACEBACK"):
            raise
        say(f"{name}: a defect of this program: {one_line(error)}; report it, with what WATCHROOM_TRACEBACK=1 prints")
        return Exit.DEFECT


if __name__ == "__main__":
    sys.exit(main())
