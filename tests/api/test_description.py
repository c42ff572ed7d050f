"""openapi.json, the router and real answers agree."""

import re
from html.parser import HTMLParser
from typing import Any

import pytest

from api.application import all_routes
from api.openapi import describe
from api.pages import load
from api.schemas import COMPONENTS

METHODS = {"get", "put", "post", "delete", "options", "head", "patch", "trace"}


@pytest.fixture(scope="module")
def description() -> dict[str, Any]:
    return describe(all_routes())


def described(description: dict[str, Any]) -> set[tuple[str, str]]:
    return {(method.upper(), path) for path, methods in description["paths"].items() for method in methods}


async def test_every_route_is_described_and_every_description_is_routed(api: Any, description: dict[str, Any]) -> None:
    pages = {page.address for page in load()}
    routed = {(route.method, route.resource.canonical) for route in api.served.app.router.routes() if route.resource.canonical not in pages}
    assert {(method, path) for method, path in routed if method != "HEAD"} == described(description)
    assert {path for method, path in routed if method == "HEAD"} <= {path for method, path in routed if method == "GET"}


async def test_the_served_description_is_this_one(api: Any, description: dict[str, Any]) -> None:
    assert (await api.get("openapi.json")).json == description


def test_the_description_is_whole(description: dict[str, Any]) -> None:
    assert description["openapi"] == "3.1.0" and description["info"]["title"] and description["info"]["version"]
    ids = []
    for path, methods in description["paths"].items():
        assert path.startswith("/") and set(methods) <= METHODS
        for operation in methods.values():
            ids.append(operation["operationId"])
            assert operation["summary"] and operation["responses"]
            in_path = {parameter["name"] for parameter in operation["parameters"] if parameter["in"] == "path"}
            assert in_path == set(re.findall(r"{(\w+)}", path))
            assert all(parameter["required"] for parameter in operation["parameters"] if parameter["in"] == "path")
            assert all("schema" in parameter for parameter in operation["parameters"])
            assert all(re.fullmatch(r"[1-5]\d\d", status) and answer["description"] for status, answer in operation["responses"].items())
            assert any(status.startswith(("1", "2")) for status in operation["responses"])
    assert len(ids) == len(set(ids))


def test_every_reference_leads_somewhere(description: dict[str, Any]) -> None:
    references = set(re.findall(r"'#/components/schemas/(\w+)'", repr(description)))
    assert references <= set(COMPONENTS)
    assert set(COMPONENTS) <= references | {"Problem"}


def test_what_takes_a_token_says_so(description: dict[str, Any]) -> None:
    for path, methods in description["paths"].items():
        for operation in methods.values():
            assert bool(operation["security"]) == ("401" in operation["responses"] and "x-scopes" in operation), path


def check(value: Any, schema: dict[str, Any], where: str = "$") -> None:
    """The value has the schema's shape; only the words that our schemas use are known, others fail."""
    assert set(schema) <= {
        "type",
        "properties",
        "required",
        "items",
        "oneOf",
        "enum",
        "$ref",
        "additionalProperties",
        "description",
        "format",
        "minimum",
        "maximum",
    }, where
    if "$ref" in schema:
        return check(value, COMPONENTS[schema["$ref"].rpartition("/")[2]], where)
    if "oneOf" in schema:
        assert any(fits(value, choice) for choice in schema["oneOf"]), (where, value)
    if "enum" in schema:
        assert value in schema["enum"], (where, value)
    kinds: dict[str, Any] = {
        "string": str,
        "integer": int,
        "number": (int, float),
        "boolean": bool,
        "array": list,
        "object": dict,
        "null": type(None),
    }
    if "type" in schema:
        assert isinstance(value, kinds[schema["type"]]), (where, value)
        assert schema["type"] == "boolean" or not isinstance(value, bool), where
    for name in schema.get("required", ()):
        assert name in value, (where, name)
    if isinstance(value, dict) and "properties" in schema and "additionalProperties" not in schema:
        for name, member in value.items():
            assert name in schema["properties"] or where.startswith("$.slots"), (where, name)
            if name in schema["properties"]:
                check(member, schema["properties"][name], f"{where}.{name}")
    if isinstance(value, list):
        for item in value:
            check(item, schema["items"], f"{where}[]")
    return None


def fits(value: Any, schema: dict[str, Any]) -> bool:
    try:
        check(value, schema)
    except AssertionError:
        return False
    return True


@pytest.mark.parametrize(
    ("path", "shape"),
    [
        ("cameras", "CameraPage"),
        ("cameras/north", "Camera"),
        ("cameras/north/timeline?start=0&end=1", "Timeline"),
        ("cameras/north/timeline?start=0&end=10000000000&resolution=1", "Timeline"),
        ("system", "System"),
        ("/healthz", "Health"),
        ("/nothing", "Problem"),
        ("cameras?x=1", "Problem"),
    ],
)
async def test_answers_have_the_described_shape(api: Any, path: str, shape: str) -> None:
    check((await api.get(path)).json, COMPONENTS[shape])


class Anchors(HTMLParser):
    """Links, ids and whatever could load something from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.ids: set[str] = set()
        self.scripts = 0
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.scripts += tag == "script" or any(name.startswith("on") or name == "style" for name in found)
        self.links |= {str(found[name]) for name in ("href", "src") if name in found}
        self.ids |= {str(found["id"])} if "id" in found else set()


async def test_the_docs_page_stands_alone_and_its_links_lead_somewhere(api: Any) -> None:
    answer = await api.get("/docs")
    page = Anchors()
    page.feed(answer.body.decode())
    assert page.scripts == 0
    assert {link for link in page.links if not link.startswith("#")} == {"/api/v1/openapi.json", "/docs.css"}
    assert {link[1:] for link in page.links if link.startswith("#")} <= page.ids
    assert {f"status-{status}" for status in (400, 401, 403, 404, 409, 410, 421, 422, 429, 500, 503)} <= page.ids
    for _, path in described((await api.get("openapi.json")).json):
        assert path in answer.body.decode()
