"""A link that swallows everything: both ends believe in the connection."""

import asyncio
import contextlib
from types import TracebackType
from typing import Self

from recorder.base.media import GapCause
from tests.session.fake_camera import FakeCamera
from tests.session.rig import Rig


class Relay:
    """Passes bytes on between us and a camera until `swallow`: then nothing arrives anywhere and nothing is closed."""

    def __init__(self, camera: FakeCamera) -> None:
        self.camera = camera
        self.swallow = False
        self.connections = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def url(self) -> str:
        """The camera through the relay."""
        return f"rtsp://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/live"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.camera.port)
        with contextlib.suppress(asyncio.CancelledError, OSError):
            await asyncio.gather(self._pass(reader, far_writer), self._pass(far_reader, writer))
        writer.close()
        far_writer.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            if not self.swallow:
                writer.write(data)
        writer.close()


async def test_link_that_swallows_everything_is_a_stall_and_a_new_session() -> None:
    async with FakeCamera() as camera, Relay(camera) as relay, Rig() as rig:
        rig.record(relay.url, stall_s=1.0)
        await rig.recorded()
        relay.swallow = True
        assert (await rig.failed()).cause == GapCause.STALL
        assert rig.tape().gaps[0] == GapCause.STALL
        assert camera.methods().count("TEARDOWN") == 0, "it was sent and swallowed"
        relay.swallow = False
        await rig.until(lambda: any(au["session"] >= 2 for au, _ in rig.tape().aus))
        assert camera.methods().count("TEARDOWN") >= 1, "the lost session is ended on a new connection"
        assert not any(au["flags"] & 4 for au, _ in rig.tape().aus)
