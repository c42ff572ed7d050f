"""The session that a camera may still hold for us: asked to end on a new connection, before we ask for another.

Connections that ended without a confirmed TEARDOWN leave one behind (a stalled camera, a broken link). Cameras with two or three places
would refuse us until it has timed out (retina#34, gortsplib#1031).
"""

from recorder.base.clock import Clock
from recorder.base.errors import NoRoom, SourceError
from recorder.base.media import NS, GapCause
from recorder.rtsp.connection import RtspConnection
from recorder.rtsp.memory import CameraMemory

ANSWER_S = 2.0


async def end_leftover(memory: CameraMemory, connection: RtspConnection, clock: Clock) -> None:
    """TEARDOWN of what is left over, on a connection of its own, which is closed. Any answer will do: it is gone, or was never known.

    Raises NoRoom, with the time until it expires, if there was no answer and the camera's places are known to be few.
    """
    left = memory.leftover
    if left is None:
        return
    try:
        await connection.request("TEARDOWN", left.url, [("Session", left.session)], timeout_s=ANSWER_S)
        memory.leftover = None
    except SourceError as error:
        if error.cause == GapCause.AUTH:         # not with another wrong password
            memory.leftover = None
    finally:
        connection.close()
    if memory.leftover is not None and memory.few_slots:
        raise NoRoom("the camera may still hold our last session", cause=GapCause.REFUSED, where=connection.where,
                     retry_s=(left.until_ns - clock.mono_ns()) / NS)
