"""The keep-alives of one session: which method, how often, and what an answer, or none, means.

GET_PARAMETER if the camera knows it, else OPTIONS; a refused method gives way to OPTIONS for good. Cameras that answer neither are asked
both in turn, twice as often: some count only GET_PARAMETER as life and never answer it (ZLMediaKit#642). A missing answer never ends a
session whose media flow.
"""

import asyncio
import random
from collections.abc import Callable

from recorder.base.errors import SourceError
from recorder.base.media import GapCause
from recorder.rtsp.connection import RtspConnection
from recorder.rtsp.handshake import SessionState
from recorder.rtsp.memory import CameraMemory

PERIOD_MAX_S = 30.0
ANSWER_S = 10.0
REFUSES_METHOD = {400, 403, 404, 405, 451, 454, 501, 551}
OTHER = {"GET_PARAMETER": "OPTIONS", "OPTIONS": "GET_PARAMETER"}


class KeepAlive:
    """`run` is its task. `gone` is called when the camera no longer knows the session and sends nothing for it either."""

    def __init__(self, connection: RtspConnection, state: SessionState, url: str, memory: CameraMemory, gone: Callable[[], None]) -> None:
        self._connection = connection
        self._state = state
        self._url = url
        self._memory = memory
        self._gone = gone
        self._method = memory.keepalive or ("GET_PARAMETER" if "GET_PARAMETER" in state.public else "OPTIONS")
        self._unanswered = False
        self._frames = 0

    async def run(self) -> None:
        """Touch the session until cancelled, or until the camera refuses our login for it."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            period_s = self._period_s()
            due = max(loop.time(), due + period_s * random.uniform(0.8, 1.0))  # noqa: S311
            await asyncio.sleep(due - loop.time())
            try:
                await self._touch(period_s)
            except SourceError as error:
                if not self._go_on(error):
                    return

    def _period_s(self) -> float:
        """Half of the session's timeout, a quarter while nobody answers; never over 30 s, because of routers that forget connections."""
        half_s = min(self._state.timeout_s / 2, PERIOD_MAX_S)
        return half_s / 2 if self._unanswered else half_s

    async def _touch(self, period_s: float) -> None:
        answer = await self._connection.request(self._method, self._url, self._state.headers, timeout_s=min(ANSWER_S, period_s))
        self._state.learn(answer)
        self._unanswered = False
        frames, self._frames = self._frames, self._connection.framing.stats()["frames"]
        if answer.status == 454 and frames == self._frames:
            self._gone()
        if answer.status in REFUSES_METHOD:
            self._method = "OPTIONS"
        self._memory.keepalive = self._method

    def _go_on(self, error: SourceError) -> bool:
        """After no answer, or a refused login: one method may be a matter of rights; two are the password, and more would lock us out."""
        if error.cause == GapCause.AUTH:
            asked, self._method = self._method, "OPTIONS"
            self._memory.keepalive = self._method
            return asked != "OPTIONS"
        self._unanswered = True
        self._memory.keepalive = ""
        self._method = OTHER[self._method]
        return True
