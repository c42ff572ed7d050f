"""aiohttp's own FileResponse under uvloop, what any Python server of recordings would be: `python -m bench.fileserver FILE`; says its port."""

import asyncio
import sys

import uvloop
from aiohttp import web


async def serve(path: str) -> None:
    """Until standard input ends."""
    app = web.Application()

    async def answer(_: web.Request) -> web.FileResponse:
        return web.FileResponse(path)

    app.router.add_get("/", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    sys.stdout.write(f"{runner.addresses[0][1]}\n")
    sys.stdout.flush()
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await runner.cleanup()


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1]))
