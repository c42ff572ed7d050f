"""What handlers find on the application and on the request, typed.

store = request.app[keys.STORE]; camera = request[keys.CAMERA]; grant = request[keys.GRANT]
"""

from typing import Any, Protocol

from aiohttp import web

from api.authorise import Grant
from api.registry import Registry
from api.status import StatusBoard
from recorder.base.clock import Clock
from recorder.base.config import SiteConfig
from storage.camera_record import CameraRecord
from storage.store import TapeStore


class Supervisor(Protocol):
    """The supervisor's socket: the one writer of the catalogue."""

    async def call(self, name: str, args: dict[str, Any]) -> Any:
        """The result; the error that the supervisor raised, raised again."""
        ...


SITE = web.AppKey("site", SiteConfig)
CLOCK = web.AppKey[Clock]("clock")
STORE = web.AppKey("store", TapeStore)
REGISTRY = web.AppKey("registry", Registry)
STATUS = web.AppKey("status", StatusBoard)
SUPERVISOR = web.AppKey[Supervisor]("supervisor")

GRANT = web.RequestKey("grant", Grant)
CAMERA = web.RequestKey("camera", CameraRecord)  # the camera that the path names; within the grant's reach
