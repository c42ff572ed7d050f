"""`/api/v1/openapi.json`: the description (OpenAPI 3.1), made from the same declarations that the router and the doors use."""

import json
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

from aiohttp import web

from api.parameters import Parameter
from api.problems import MEDIA_TYPE
from api.routes import ROOT, Answer, Route
from api.schemas import COMPONENTS, TEXT, ref
from api.system import version

INTRODUCTION = """Times are RFC 3339 or integer nanoseconds since 1970 in requests, RFC 3339 in UTC in answers.
Errors are problem documents (RFC 9457). Unknown parameters are refused. Send a token as `Authorization: Bearer wr_...`; browsers
trade it for a cookie at `/session`; players open signed addresses made by `/links`. Changes need a page of this server, or a Bearer token."""
EVERYWHERE = {
    400: "a parameter or the body is wrong; `parameter` names it",
    403: "not allowed: scope, origin or proxy headers",
    421: "the Host is not one of this server's",
    500: "a defect; `incident` is in the server's log",
}
WORDS = {
    401: "a token is needed, or this one is not good",
    404: "no such thing within reach",
    406: "it cannot be given in any form that was asked for; `ways` are others",
    408: "the body came too slowly",
    409: "it exists already, or somebody else owns it",
    410: "the footage has been retired",
    413: "the body is larger than 64 KiB",
    415: "the body is not of the listed type",
    412: "it is not what If-Match names",
    416: "the range cannot be served",
    422: "understood, and refused by the configuration's rules",
    429: "too many at once",
    501: "this server does not do that",
    503: "not now: the storage or another process does not answer",
}


def describe(routes: Iterable[Route]) -> dict[str, Any]:
    """The whole description."""
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.plain_path, {})[route.method.lower()] = operation(route)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Watchroom", "version": version(), "description": INTRODUCTION},
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": COMPONENTS,
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer"},
                "session": {"type": "apiKey", "in": "cookie", "name": "watchroom"},
                "link": {"type": "apiKey", "in": "query", "name": "sig", "description": "with exp and kid; made by /links"},
            },
        },
    }


def operation(route: Route) -> dict[str, Any]:
    """One route."""
    described: dict[str, Any] = {
        "summary": route.summary,
        "operationId": _operation_id(route),
        "tags": [route.tag],
        "parameters": list(_parameters(route)),
        "responses": {str(status): _answer(answer) for status, answer in sorted(route.answers.items())} | _problems(route),
    }
    if route.body is not None:
        described["requestBody"] = {"required": True, "content": {route.body_type: {"schema": _schema(route.body)}}}
    described["security"] = _security(route)
    if route.scopes is not None:
        described["x-scopes"] = sorted(route.scopes)
    return described


def _operation_id(route: Route) -> str:
    words = [word.strip("{}") for word in route.plain_path.replace(ROOT, "").replace(".", "/").split("/") if word]
    return "-".join([route.method.lower(), *words])


def _parameters(route: Route) -> Iterable[dict[str, Any]]:
    declared = {parameter.name for parameter in route.parameters if parameter.place == "path"}
    for name in route.places:
        if name not in declared:
            yield {"name": name, "in": "path", "required": True, "schema": TEXT}
    for parameter in route.parameters:
        yield _parameter(parameter)


def _parameter(parameter: Parameter[Any]) -> dict[str, Any]:
    in_path = parameter.place == "path"
    return {
        "name": parameter.name,
        "in": parameter.place,
        "required": in_path or parameter.required,
        "schema": parameter.schema,
        "description": parameter.text,
    }


def _answer(answer: Answer) -> dict[str, Any]:
    described: dict[str, Any] = {"description": answer.text}
    if answer.schema is not None:
        described["content"] = {answer.media_type: {"schema": _schema(answer.schema)}}
    elif answer.media_type != "application/json":
        described["content"] = {answer.media_type: {}}
    return described


def _schema(schema: str | Mapping[str, Any]) -> Mapping[str, Any]:
    return ref(schema) if isinstance(schema, str) else schema


def _problems(route: Route) -> dict[str, Any]:
    statuses = {
        *EVERYWHERE,
        *route.problems,
        *({401} if route.scopes is not None else ()),
        *({404} if route.places else ()),
        *({429} if route.looks else ()),
        *({408, 413, 415} if route.body is not None else ()),
    } - set(route.answers)
    content = {MEDIA_TYPE: {"schema": ref("Problem")}}
    return {
        str(status): {"description": WORDS.get(status) or EVERYWHERE.get(status) or HTTPStatus(status).phrase, "content": content}
        for status in sorted(statuses)
    }


def _security(route: Route) -> list[dict[str, list[str]]]:
    if route.scopes is None:
        return []
    links: list[dict[str, list[str]]] = [{"link": []}] if route.signable else []
    return [{"token": []}, {"session": []}, *links]


DESCRIPTION = web.AppKey[dict[str, Any]]("description", dict)


async def description(request: web.Request) -> web.Response:
    """The description as JSON."""
    return web.Response(
        body=json.dumps(request.app[DESCRIPTION]).encode(), content_type="application/json", headers={"Cache-Control": "no-cache"}
    )


def routes() -> list[Route]:
    """The routes of this module."""
    return [
        Route(
            "GET",
            f"{ROOT}/openapi.json",
            description,
            "This description",
            scopes=None,
            tag="system",
            answers={200: Answer("OpenAPI 3.1", {"type": "object"})},
        )
    ]
