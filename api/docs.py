"""`/docs`: the description as one plain page, rendered here: no script, no files from elsewhere."""

from collections.abc import Iterator
from html import escape
from typing import Any

from aiohttp import web

from api.guard import page_policy
from api.openapi import DESCRIPTION, EVERYWHERE, WORDS
from api.problems import title
from api.routes import Answer, Route

HEAD = """<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Watchroom API</title><link rel="stylesheet" href="/docs.css"></head><body><main><h1>Watchroom API</h1>
<p>{introduction}</p><p>Machines read <a href="/api/v1/openapi.json">/api/v1/openapi.json</a>.</p>"""
STYLE = """:root { color-scheme: light dark; font: 16px/1.5 system-ui, "DejaVu Sans", sans-serif; }
main { max-width: 60rem; margin: 0 auto; padding: 1rem; }
h2 { margin: 2rem 0 .2rem; font-size: 1.05rem; border-top: 1px solid #8888; padding-top: 1rem; }
code { font: .9em ui-monospace, "DejaVu Sans Mono", monospace; }
table { border-collapse: collapse; width: 100%; }
td { vertical-align: top; padding: .15rem .8rem .15rem 0; }
td:first-child { white-space: nowrap; }
"""


def page(description: dict[str, Any]) -> str:
    """The page's HTML."""
    parts = [HEAD.format(introduction=escape(description["info"]["description"]))]
    for path, methods in description["paths"].items():
        for method, operation in methods.items():
            parts += _operation(method, path, operation)
    parts += ["<h1>Shapes</h1>", *_shapes(description["components"]["schemas"]), "<h1>Problems</h1>", *_statuses()]
    return "\n".join([*parts, "</main></body></html>"])


def _operation(method: str, path: str, operation: dict[str, Any]) -> Iterator[str]:
    scopes = ", ".join(operation["x-scopes"]) if "x-scopes" in operation else "none"
    yield f'<h2 id="{operation["operationId"]}"><code>{method.upper()} {escape(path)}</code></h2>'
    yield f"<p>{escape(operation['summary'])}. Scope: {escape(scopes)}.</p><table>"
    for parameter in operation["parameters"]:
        need = "required" if parameter["required"] else _default(parameter["schema"])
        yield _row(f"<code>{escape(parameter['name'])}</code>", f"{escape(parameter.get('description', ''))} ({need}, {parameter['in']})")
    for status, answer in operation["responses"].items():
        kinds = ", ".join(answer.get("content", {}))
        yield _row(
            f'<a href="#status-{status}">{status}</a>' if int(status) >= 400 else status,
            f"{escape(answer['description'])} {_shape_link(answer)}<code>{escape(kinds)}</code>",
        )
    yield "</table>"
    if "requestBody" in operation:
        content = next(iter(operation["requestBody"]["content"].values()))
        yield f"<p>Body:</p><table>{''.join(_members(content['schema']))}</table>"


def _default(schema: dict[str, Any]) -> str:
    return f"default {escape(str(schema['default']))}" if "default" in schema else "optional"


def _shape_link(answer: dict[str, Any]) -> str:
    for content in answer.get("content", {}).values():
        if name := content.get("schema", {}).get("$ref", "").rpartition("/")[2]:
            return f'<a href="#shape-{name}">{name}</a> '
    return ""


def _shapes(schemas: dict[str, Any]) -> Iterator[str]:
    for name, schema in schemas.items():
        yield f'<h2 id="shape-{name}">{name}</h2><p>{escape(schema.get("description", ""))}</p><table>{"".join(_members(schema))}</table>'


def _members(schema: dict[str, Any]) -> Iterator[str]:
    for name, member in schema.get("properties", {}).items():
        need = "" if name in schema.get("required", ()) else " (optional)"
        yield _row(f"<code>{escape(name)}</code>", f"{escape(_kind(member))}{need} {escape(member.get('description', ''))}")


def _kind(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        return str(schema["$ref"].rpartition("/")[2])
    if "oneOf" in schema:
        return " or ".join(_kind(choice) for choice in schema["oneOf"])
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    return f"list of {_kind(schema['items'])}" if schema.get("type") == "array" else str(schema.get("type", "any"))


def _statuses() -> Iterator[str]:
    yield "<table>"
    for status, words in sorted({**EVERYWHERE, **WORDS}.items()):
        yield f'<tr id="status-{status}"><td>{status} {escape(title(status))}</td><td>{escape(words)}</td></tr>'
    yield "</table>"


def _row(left: str, right: str) -> str:
    return f"<tr><td>{left}</td><td>{right}</td></tr>"


async def docs(request: web.Request) -> web.Response:
    """The page."""
    return web.Response(
        text=page(request.app[DESCRIPTION]),
        content_type="text/html",
        headers={"Content-Security-Policy": page_policy(request), "Cache-Control": "no-cache"},
    )


async def style(_: web.Request) -> web.Response:
    """Its style sheet."""
    return web.Response(text=STYLE, content_type="text/css", headers={"Cache-Control": "no-cache"})


def routes() -> list[Route]:
    """The routes of this module."""
    return [
        Route("GET", "/docs", docs, "This page", scopes=None, tag="system", answers={200: Answer("the page", media_type="text/html")}),
        Route("GET", "/docs.css", style, "Its style", scopes=None, tag="system", answers={200: Answer("the style", media_type="text/css")}),
    ]
