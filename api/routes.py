"""How a route is declared: once, for the router, the door (scopes, parameters, body) and the description alike.

def routes() -> list[Route]:
    return [Route("GET", f"{ROOT}/cameras/{{camera}}/clip.mp4", clip, "A seekable MP4", scopes=VIEW, parameters=(START, END), signable=True,
                  answers={200: Answer("the clip", media_type="video/mp4")}, problems=(404, 410, 416))]
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from api.authorise import Scope
from api.parameters import Parameter
from api.problems import Handler

ROOT = "/api/v1"
VIEW = frozenset({Scope.VIEW})
ADMIN = frozenset({Scope.ADMIN})
VIEW_OR_ADMIN = VIEW | ADMIN
_PLACE = re.compile(r"\{(\w+)(?::[^{}]+)?\}")


@dataclass(frozen=True, slots=True)
class Answer:
    """A successful answer: JSON of `schema` (a name in the description's components, or a schema), or bytes of `media_type`."""

    text: str
    schema: str | Mapping[str, Any] | None = None
    media_type: str = "application/json"


@dataclass(frozen=True, slots=True)
class Route:
    """One method of one address.

    `scopes`: any of them opens it; None: open to anybody. `{camera}` in the path is resolved at the door, within the grant's reach, and is
    then `request[keys.CAMERA]`. `body` is the schema of a JSON body (None: none is read). `problems` are the error statuses of its own,
    besides those that every route may give. `signable`: a signed URL opens it as well. `head`: GET answers HEAD too. `looks`: it waits for
    the side thread, where each holder's requests take turns.
    """

    method: str
    path: str
    handler: Handler
    summary: str
    scopes: frozenset[Scope] | None
    parameters: tuple[Parameter[Any], ...] = ()
    answers: Mapping[int, Answer] = field(default_factory=dict)
    problems: tuple[int, ...] = ()
    body: str | Mapping[str, Any] | None = None
    body_type: str = "application/json"
    signable: bool = False
    head: bool = True
    websocket: bool = False
    looks: bool = False
    tag: str = "cameras"

    @property
    def places(self) -> tuple[str, ...]:
        """Names of the path's variables."""
        return tuple(_PLACE.findall(self.path))

    @property
    def plain_path(self) -> str:
        """The path without patterns, as OpenAPI spells it."""
        return _PLACE.sub(lambda found: "{" + found[1] + "}", self.path)
