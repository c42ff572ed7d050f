"""Cameras made by somebody else, as fixtures start them."""

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

SCRIPT = Path(__file__).parent.parent / "servers" / "gst_server.py"


@asynccontextmanager
async def gst_camera(*options: str, inside: Sequence[str] = (), address: str = "127.0.0.1") -> AsyncIterator[str]:
    """The address of a gst-rtsp-server camera, behind the command `inside`; a machine without one fails the test."""
    async with gst_process(*options, inside=inside, address=address) as (url, _):
        yield url


@asynccontextmanager
async def gst_process(*options: str, inside: Sequence[str] = (),
                      address: str = "127.0.0.1") -> AsyncIterator[tuple[str, asyncio.subprocess.Process]]:
    """The camera's address and its process."""
    command = [*inside, "/usr/bin/python3", str(SCRIPT), "--address", address, *options]
    process = await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=sys.stderr)
    assert process.stdout is not None and process.stdin is not None
    try:
        async with asyncio.timeout(120):
            line = (await process.stdout.readline()).decode().split()
        assert line[:1] == ["port"], "gst-rtsp-server does not run here: make test installs it"
        yield f"{'rtsps' if '--cert' in options else 'rtsp'}://{address}:{line[1]}/cam", process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
