"""The pages: only what lies in api/web, by name, with the headers that keep other scripts out."""

from pathlib import Path
from typing import Any

from api.pages import load


async def test_every_file_of_the_page_is_served_with_its_type(api: Any) -> None:
    pages = {page.address: page for page in load()}
    assert {"/", "/index.html", "/main.js", "/style.css"} <= set(pages)
    for address, page in pages.items():
        answer = await api.get(address)
        assert (answer.status, answer.body, answer.headers["Content-Type"]) == (200, page.body, f"{page.media_type}; charset=utf-8")
    assert b"<title>Watchroom" in (await api.get("/")).body


async def test_the_page_may_use_only_what_is_ours(api: Any) -> None:
    policy = (await api.get("/")).headers["Content-Security-Policy"]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'self'"
    assert rules["connect-src"] == f"'self' ws://{api.host}"
    assert rules["media-src"] == "'self' blob:" and rules["frame-ancestors"] == "'none'"
    assert "script-src" not in rules and "unsafe-inline" not in policy


def test_the_page_has_no_inline_script_or_style_and_nothing_from_elsewhere() -> None:
    for page in load():
        text = page.body.decode()
        assert "<script>" not in text and " onclick=" not in text and "style=" not in text, page.address
        if page.media_type == "text/html":
            assert "http://" not in text and "https://" not in text


async def test_a_browser_that_has_it_is_told_so(api: Any) -> None:
    first = await api.get("/main.js")
    assert first.headers["Cache-Control"] == "no-cache"
    again = await api.get("/main.js", headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status, again.body) == (304, b"")
    assert (await api.get("/main.js", headers={"If-None-Match": '"other"'})).status == 200


async def test_what_is_no_page_is_not_served(api: Any) -> None:
    for address in (
        "/__init__.py",
        "/api/web/main.js",
        "/web/main.js",
        "/main.js/",
        "/main.js%00",
        "/MAIN.JS",
        "/pages.py",
        "/favicon.ico",
    ):
        assert (await api.get(address)).status == 404, address


def test_only_known_types_are_loaded(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("index.html", "a.js", "b.py", "c.js.map", ".hidden", "sub/d.css", "sub/index.html"):
        (tmp_path / name).write_text(name)
    assert {page.address for page in load(tmp_path)} == {"/", "/index.html", "/a.js", "/sub/d.css", "/sub/", "/sub/index.html"}
