"""Declared parameters of a request: each one knows how to read itself and how the description spells it. What is not declared is refused."""

import asyncio
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from aiohttp import web

from api.problems import Problem
from api.times import parse_time
from recorder.base.media import NS, valid_id

T = TypeVar("T")
INTEGER = re.compile(r"-?[0-9]{1,19}")
NUMBER = re.compile(r"-?[0-9]{1,15}(?:\.[0-9]{1,15})?")  # float() also takes 1_0, blanks and infinity
BODY_MAX = 64 << 10
BODY_S = 10.0
RANGE_MAX_NS = 31 * 86_400 * NS
SIGNATURE_NAMES = frozenset({"sig", "exp", "kid"})
DIRECTIVE_NAMES = frozenset({"_HLS_msn", "_HLS_part", "_HLS_skip"})     # a player adds them to a live playlist's address (RFC 8216bis 6.2.5)


class _Required:
    """Marks a parameter without which there is no answer."""


REQUIRED = _Required()


@dataclass(frozen=True, slots=True)
class Parameter(Generic[T]):
    """A parameter of the query (or, by `place`, of the path or a header).

    `parse` turns its text into a value or raises ValueError with the end of a sentence ("must be ...").
    """

    name: str
    parse: Callable[[str], T]
    schema: dict[str, Any]
    text: str
    default: T | _Required = REQUIRED
    place: str = field(default="query")

    @property
    def required(self) -> bool:
        """True if the request must bear it."""
        return self.default is REQUIRED

    def of(self, request: web.Request) -> T:
        """The request's value, or the default; Problem 400 names the parameter."""
        text = self._text(request)
        if text is None:
            if isinstance(self.default, _Required):
                raise wrong(self.name, "is required")
            return self.default
        try:
            return self.parse(text)
        except ValueError as error:
            raise wrong(self.name, str(error)) from None

    def _text(self, request: web.Request) -> str | None:
        if self.place == "header":
            return request.headers.get(self.name)
        return request.match_info.get(self.name) if self.place == "path" else request.query.get(self.name)


def wrong(name: str, reason: str) -> Problem:
    """The problem of one parameter or body member."""
    return Problem(400, f"{name} {reason}", parameter=name)


def check_names(request: web.Request, declared: Iterable[Parameter[Any]], signable: bool) -> None:
    """Problem 400 for a parameter that is not declared or is given twice."""
    names = {parameter.name for parameter in declared if parameter.place == "query"} | (SIGNATURE_NAMES if signable else frozenset())
    for name in request.query:
        if name not in names:
            known = ", ".join(sorted(names)) or "none"
            raise Problem(400, "a parameter is not known here", parameter=name[:64], remedy=f"known: {known}")
        if len(request.query.getall(name)) > 1:
            raise wrong(name, "is given more than once")


def integer(least: int, most: int) -> Callable[[str], int]:
    """A parser of decimal integers within bounds."""

    def parse(text: str) -> int:
        if not INTEGER.fullmatch(text) or not least <= int(text) <= most:
            raise ValueError(f"must be an integer from {least} to {most}")
        return int(text)

    return parse


def number(least: float, most: float) -> Callable[[str], float]:
    """A parser of finite decimal numbers within bounds."""

    def parse(text: str) -> float:
        if not NUMBER.fullmatch(text) or not least <= float(text) <= most:
            raise ValueError(f"must be a number from {least} to {most}")
        return float(text)

    return parse


def one_of(*words: str) -> Callable[[str], str]:
    """A parser of one of some words."""

    def parse(text: str) -> str:
        if text not in words:
            raise ValueError("must be one of " + ", ".join(words))
        return text

    return parse


def text_of(most: int) -> Callable[[str], str]:
    """A parser of short printable text."""

    def parse(text: str) -> str:
        if len(text) > most or not text.isprintable():
            raise ValueError(f"must be printable and at most {most} characters long")
        return text

    return parse


def identifier(text: str) -> str:
    """A camera id or track name."""
    if not valid_id(text):
        raise ValueError("must be lower-case letters, digits and hyphens, at most 48")
    return text


TIME_SCHEMA = {
    "oneOf": [{"type": "string", "format": "date-time"}, {"type": "integer", "format": "int64", "description": "ns since 1970, UTC"}]
}
START = Parameter("start", parse_time, TIME_SCHEMA, "Begin of the range (included): RFC 3339 or integer ns, UTC.")
END = Parameter("end", parse_time, TIME_SCHEMA, "End of the range (excluded).")
TRACK = Parameter("track", identifier, {"type": "string"}, "Name of a track.", "main")


def time_range(request: web.Request) -> tuple[int, int]:
    """`start` and `end` of the request: start before end, at most 31 days apart."""
    start, end = START.of(request), END.of(request)
    if start >= end:
        raise wrong("end", "must be after start")
    if end - start > RANGE_MAX_NS:
        raise Problem(400, "the range is longer than 31 days", parameter="end", remedy="ask for it in parts")
    return start, end


async def json_body(request: web.Request) -> dict[str, Any]:
    """The request's JSON object: at most 64 KiB, UTF-8, no member twice, no NaN; Problem 400, 408 or 413."""
    try:
        async with asyncio.timeout(BODY_S):
            raw = await request.read()
    except TimeoutError:
        raise Problem(408, "the body did not arrive in time") from None
    try:
        value = json.loads(raw.decode("utf-8"), object_pairs_hook=_once, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise Problem(400, "the body is not the JSON of one object without repeated members") from None
    if not isinstance(value, dict):
        raise Problem(400, "the body must be a JSON object")
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("repeated member")
    return members


def _no_constant(_: str) -> None:
    raise ValueError("not a JSON number")
