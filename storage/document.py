"""JSON documents that anybody may have written."""

import json
from typing import Any


def parsed(raw: str | bytes) -> Any:
    """The document; ValueError for whatever is none: not JSON, not UTF-8, nested too deep, numbers that are none (NaN, Infinity)."""
    try:
        return json.loads(raw, parse_constant=_no_number)
    except RecursionError:
        raise ValueError("nested too deep") from None


def _no_number(word: str) -> Any:
    raise ValueError(f"{word} is no number")
