"""Tells whoever asked that an export has ended: a signed POST, at least once, with an id by which the receiver tells it apart.

The form is that of Standard Webhooks: `webhook-id`, `webhook-timestamp` and `webhook-signature` ("v1," and the base64 of HMAC-SHA-256 over
"id.timestamp.body"). Only addresses below configured prefixes are called; redirects are not followed. How far a delivery is stands in the job's
record before and after each try, so a killed process neither forgets one nor repeats one that was answered.
"""

import base64
import hashlib
import hmac
import json
import logging
from collections.abc import Sequence
from dataclasses import replace
from urllib.parse import unquote, urlsplit

import aiohttp

from api.exports.job import Call, Job
from api.problems import scrub
from api.times import rfc3339
from recorder.base.clock import Clock
from recorder.base.media import NS

log = logging.getLogger("watchroom.exports")

ANSWER_S = 15.0
ANSWER_BYTES = 4096
WAITS_S = (5, 30, 120, 600, 3600, 3600 * 4, 3600 * 12, 86_400, 86_400)      # after each failure; then it is given up
ADDRESS_MAX = 500


def allowed(address: str, prefixes: Sequence[str]) -> bool:
    """True if the address lies below one of the prefixes: the same scheme, host and port, and a path that begins with the prefix's."""
    try:
        asked = urlsplit(address)
        plain = address.isascii() and address.isprintable() and len(address) <= ADDRESS_MAX and "\\" not in address
        if not plain or asked.username or asked.password:
            return False
        return any(_below(address, prefix) for prefix in prefixes)
    except ValueError:
        return False


def _below(address: str, prefix: str) -> bool:
    asked, known = urlsplit(address), urlsplit(prefix)
    path = known.path if known.path.endswith("/") else known.path + "/"
    plain = "/." not in unquote(unquote(asked.path)) and not asked.fragment      # some receivers decode before they look, some twice
    same = (asked.scheme, asked.hostname, asked.port) == (known.scheme, known.hostname, known.port)
    return same and plain and (asked.path.startswith(path) or asked.path == known.path)


def signature(secret: bytes, call_id: str, timestamp_s: int, body: bytes) -> str:
    """The header's value."""
    digest = hmac.new(secret, f"{call_id}.{timestamp_s}.".encode() + body, hashlib.sha256).digest()
    return "v1," + base64.b64encode(digest).decode()


def secret_of(line: str) -> bytes:
    """The key that a secret file's line holds: base64 after `whsec_`, else the line's own bytes. ValueError."""
    if line.startswith("whsec_"):
        return base64.b64decode(line.removeprefix("whsec_"), validate=True)
    return line.encode()


def body_of(job: Job) -> bytes:
    """What is told: that it has ended and how; the rest is to be asked for."""
    made = job.result
    data = {"export": job.id, "state": job.state.value, "reference": job.wanted.reference,
            "result": {"name": made.name, "bytes": made.nbytes, "sha256": made.sha256, "complete": made.complete} if made else None,
            "error": {"message": scrub(job.failure.message), "remedy": scrub(job.failure.remedy)} if job.failure else None}
    return json.dumps({"type": f"export.{job.state.value}", "timestamp": rfc3339(job.ended_ns), "data": data}).encode()


def due(job: Job, now_ns: int) -> bool:
    """True if a delivery is to be tried now."""
    call = job.call
    return job.ended and call is not None and not call.done_ns and not call.given_up and now_ns >= call.next_ns


class Caller:
    """Makes the calls. Loop thread only; `close` at the end."""

    def __init__(self, secret: bytes, clock: Clock) -> None:
        self._secret, self._clock = secret, clock
        self._session: aiohttp.ClientSession | None = None
        self.delivered = self.failed = 0

    async def call(self, job: Job) -> Call:
        """Try once; the delivery as it stands then."""
        assert job.call is not None
        error = await self._try(job, job.call)
        now_ns, tries = self._clock.wall_ns(), job.call.tries + 1
        if not error:
            self.delivered += 1
            return replace(job.call, tries=tries, done_ns=now_ns, error="")
        self.failed += 1
        log.warning("the webhook of export %s failed: %s", job.id, error)
        wait_s = WAITS_S[min(tries, len(WAITS_S)) - 1]
        return replace(job.call, tries=tries, next_ns=now_ns + wait_s * NS, given_up=tries >= len(WAITS_S), error=error)

    async def close(self) -> None:
        """End the connections."""
        if self._session is not None:
            await self._session.close()

    async def _try(self, job: Job, call: Call) -> str:
        body, timestamp_s = body_of(job), self._clock.wall_ns() // NS
        headers = {"Content-Type": "application/json", "User-Agent": "watchroom", "webhook-id": call.id, "webhook-timestamp": str(timestamp_s),
                   "webhook-signature": signature(self._secret, call.id, timestamp_s, body)}
        if self._session is None:
            self._session = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar(), timeout=aiohttp.ClientTimeout(total=ANSWER_S))
        try:
            async with self._session.post(call.address, data=body, headers=headers, allow_redirects=False) as answer:
                await answer.content.read(ANSWER_BYTES)
                return "" if 200 <= answer.status < 300 else f"it answers {answer.status}"
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as error:
            return f"it cannot be reached ({type(error).__name__})"
