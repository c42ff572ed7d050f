"""`/healthz`: this process answers. `/readyz`: it also knows the catalogue and hears its slots. Both say nothing else to anybody."""

from aiohttp import web

from api import keys
from api.problems import Problem
from api.routes import Answer, Route


async def alive(_: web.Request) -> web.Response:
    """The event loop turns."""
    return web.json_response({"status": "ok"})


async def ready(request: web.Request) -> web.Response:
    """The catalogue has been read and every slot answers; else 503."""
    board = request.app[keys.STATUS]
    silent = [slot for slot in board.slots() if not board.answers(slot)]
    if not request.app[keys.REGISTRY].loaded:
        raise Problem(503, "the catalogue has not been read yet")
    if silent:
        raise Problem(503, "recording slots do not answer", slots=silent)
    return web.json_response({"status": "ok"})


def routes() -> list[Route]:
    """The routes of this module."""
    answers = {200: Answer("yes", "Health")}
    return [
        Route("GET", "/healthz", alive, "Does the process answer?", scopes=None, answers=answers, tag="system"),
        Route("GET", "/readyz", ready, "Can it do its work?", scopes=None, answers=answers, problems=(503,), tag="system"),
    ]
