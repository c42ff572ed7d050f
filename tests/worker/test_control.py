"""Control sockets: who may talk, what is refused, errors that cross."""

import asyncio
import contextlib
import json
import logging
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from recorder.base import control
from recorder.base.control import ControlClient, ControlServer
from recorder.base.errors import Conflict, NotFound, SourceError
from recorder.base.media import GapCause

LOG = logging.getLogger("test")


async def handler(call: str, args: dict[str, Any]) -> Any:
    match call:
        case "echo":
            return args
        case "conflict":
            raise Conflict("it exists", where="thing", remedy="choose another")
        case "source":
            raise SourceError("no", cause=GapCause.AUTH, retry_s=300.0)
        case "slow":
            await asyncio.sleep(60)
    raise RuntimeError("a defect")


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Path]:
    path = tmp_path / "run" / "slot-0.sock"
    server = ControlServer(path, handler, LOG)
    await server.start()
    yield path
    await server.close()
    assert not path.exists()


async def raw(path: Path, data: bytes) -> bytes:
    reader, writer = await asyncio.open_unix_connection(str(path))
    writer.write(data)
    answer = await reader.readline()
    writer.close()
    return answer


async def test_socket_file_is_for_the_owner_only(server: Path) -> None:
    assert stat.S_IMODE(server.stat().st_mode) == 0o600


async def test_result_comes_back(server: Path) -> None:
    assert await ControlClient(server).call("echo", {"a": [1, "ü"]}) == {"a": [1, "ü"]}


async def test_error_crosses_as_its_class(server: Path) -> None:
    with pytest.raises(Conflict) as caught:
        await ControlClient(server).call("conflict")
    assert str(caught.value) == "thing: it exists; choose another"
    with pytest.raises(SourceError) as source:
        await ControlClient(server).call("source")
    assert (source.value.cause, source.value.retry_s) == (GapCause.AUTH, 300.0)


async def test_defect_in_a_call_leaves_the_server_up(server: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(control.errors.WatchroomError, match="failed inside"):
        await ControlClient(server).call("defect")
    assert await ControlClient(server).call("echo", {}) == {}


@pytest.mark.parametrize("line", [b"no json\n", b"[]\n", b"{}\n", b'{"call": 1}\n', b'{"call": "echo", "args": []}\n', b"[" * 5000 + b"\n"])
async def test_garbage_is_refused_with_an_answer(server: Path, line: bytes) -> None:
    assert json.loads(await raw(server, line))["error"]["type"] == "Refused"


async def test_line_over_the_limit_ends_the_connection(server: Path) -> None:
    with contextlib.suppress(ConnectionResetError):
        assert await raw(server, b"x" * (control.REQUEST_MAX + 10)) == b""


async def test_foreign_uid_gets_nothing(tmp_path: Path) -> None:
    asked: list[str] = []

    async def note(call: str, args: dict[str, Any]) -> None:
        asked.append(call)

    server = ControlServer(tmp_path / "s.sock", note, LOG, uids={4_000_000})
    await server.start()
    with contextlib.suppress(ConnectionResetError):
        assert await raw(tmp_path / "s.sock", b'{"call": "echo"}\n') == b""
    await server.close()
    assert asked == []


async def test_stale_socket_file_is_replaced_and_a_live_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    first = ControlServer(path, handler, LOG)
    await first.start()
    with pytest.raises(Conflict):
        await ControlServer(path, handler, LOG).start()
    await first.close()
    listener = control._listen(path)
    listener.close()
    assert path.is_socket()
    await first.start()
    assert await ControlClient(path).call("echo", {"b": 1}) == {"b": 1}
    await first.close()


async def test_nobody_listening_and_no_answer_are_told(tmp_path: Path, server: Path) -> None:
    with pytest.raises(NotFound, match=r"no answer to status.*watchroom serve"):
        await ControlClient(tmp_path / "none.sock").call("status")
    with pytest.raises(NotFound, match="TimeoutError"):
        await ControlClient(server).call("slow", timeout_s=0.05)
