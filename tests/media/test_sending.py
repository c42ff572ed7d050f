"""Long answers end with their token."""

import asyncio
import logging
from types import SimpleNamespace
from typing import Any

import pytest

from api import keys, sending
from api.access import NotOurFault


class Request(dict[Any, Any]):
    """As much of a request as is asked for: its grant, and a transport that notes its end."""

    def __init__(self, answers: list[bool]) -> None:
        super().__init__({keys.GRANT: SimpleNamespace(alive=lambda: answers.pop(0))})
        self.cut = asyncio.Event()
        self.transport = SimpleNamespace(abort=self.cut.set)


@pytest.mark.parametrize("grace_s", [0.0, 0.01])
async def test_a_client_that_takes_nothing_is_cut_when_its_token_is_revoked(monkeypatch: pytest.MonkeyPatch, grace_s: float) -> None:
    """The token was asked for between two pieces only: a write that waited for the client waited on."""
    monkeypatch.setattr(sending, "ALIVE_S", 0.01)
    request: Any = Request([True, True, False])
    with sending.cut_with_grant(request, grace_s=grace_s):
        await asyncio.wait_for(request.cut.wait(), 120)


async def test_an_answer_that_is_done_is_watched_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "ALIVE_S", 0.0)
    request: Any = Request([])
    with sending.cut_with_grant(request):
        pass
    await asyncio.sleep(0.01)
    assert not request.cut.is_set()


def test_a_client_that_goes_away_is_no_error_in_the_log() -> None:
    gone = logging.LogRecord("x", logging.ERROR, "", 0, "", (), (ConnectionResetError, ConnectionResetError(), None))
    ours = logging.LogRecord("x", logging.ERROR, "", 0, "", (), (ValueError, ValueError(), None))
    assert not NotOurFault().filter(gone)
    assert NotOurFault().filter(ours)
