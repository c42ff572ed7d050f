"""docs/cameras.md names tests that exist."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_every_test_that_the_page_names_exists() -> None:
    named = re.findall(r"([\w/]+\.py)::(\w+)", (ROOT / "docs" / "cameras.md").read_text())
    assert len(named) > 50
    missing = [f"{file}::{test}" for file, test in named
               if not re.search(rf"^(async )?def {test}\(", (ROOT / "tests" / file).read_text(), re.MULTILINE)]
    assert missing == []
