"""Cameras made by somebody else, as fixtures start them."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

SCRIPT = Path(__file__).parent.parent / "servers" / "gst_server.py"


@asynccontextmanager
async def gst_camera(*options: str) -> AsyncIterator[str]:
    """The address of a gst-rtsp-server camera; a machine without one fails the test."""
    process = await asyncio.create_subprocess_exec("/usr/bin/python3", str(SCRIPT), *options, stdin=asyncio.subprocess.PIPE,
                                                   stdout=asyncio.subprocess.PIPE, stderr=sys.stderr)
    assert process.stdout is not None and process.stdin is not None
    try:
        async with asyncio.timeout(120):
            line = (await process.stdout.readline()).decode().split()
        assert line[:1] == ["port"], "gst-rtsp-server does not run here: make test installs it"
        yield f"rtsp://127.0.0.1:{line[1]}/cam"
    finally:
        process.kill()
        await process.wait()
