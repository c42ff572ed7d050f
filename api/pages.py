"""The pages: the files of `api/web`, read once at start and served by name, nothing else. No path of a request ever reaches a file system."""

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable

from aiohttp import hdrs, web

from api.guard import page_policy

TYPES = {
    ".html": "text/html",
    ".js": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".webmanifest": "application/manifest+json",
}
DEPTH = 3


@dataclass(frozen=True, slots=True)
class Page:
    """One file: its address, bytes, type and strong ETag."""

    address: str
    body: bytes
    media_type: str
    etag: str


def load(folder: Traversable | None = None, prefix: str = "/", depth: int = DEPTH) -> list[Page]:
    """Every file of a known type; `index.html` is also the folder's own address."""
    found = []
    for entry in sorted((folder or files("api") / "web").iterdir(), key=lambda entry: entry.name):
        if entry.is_dir() and depth > 1:
            found += load(entry, f"{prefix}{entry.name}/", depth - 1)
        suffix = entry.name[entry.name.rfind(".") :]
        if suffix in TYPES and entry.is_file():
            found.append(_page(prefix + entry.name, entry.read_bytes(), TYPES[suffix]))
            if entry.name == "index.html":
                found.append(_page(prefix, found[-1].body, found[-1].media_type))
    return found


def _page(address: str, body: bytes, media_type: str) -> Page:
    return Page(address, body, media_type, hashlib.sha256(body).hexdigest()[:32])


def add(app: web.Application) -> None:
    """Put every page on the router."""
    for page in load():
        app.router.add_get(page.address, _handler(page), allow_head=True)


def _handler(page: Page) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def serve(request: web.Request) -> web.Response:
        return answer(request, page)

    return serve


def answer(request: web.Request, page: Page) -> web.Response:
    """The page, or 304 if the browser has it. `no-cache`: it is kept, and asked for each time, so an update shows at once."""
    headers = {
        hdrs.CACHE_CONTROL: "no-cache",
        hdrs.ETAG: f'"{page.etag}"',
        "Content-Security-Policy": page_policy(request),
        "Cross-Origin-Opener-Policy": "same-origin",
    }
    if f'"{page.etag}"' in request.headers.get(hdrs.IF_NONE_MATCH, ""):
        return web.Response(status=304, headers=headers)
    return web.Response(body=page.body, content_type=page.media_type, charset="utf-8", headers=headers)
