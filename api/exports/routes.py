"""`/exports`: jobs that make files of footage. Asked for here, made by processes of their own (api/exports/desk.py)."""

import base64
import hashlib
import json
import re
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

from aiohttp import web

from api import keys
from api.authorise import Grant, Scope
from api.cameras import LIMIT
from api.clips import CLIPS
from api.events import EVENTS
from api.exports import shelf
from api.exports.body import EXPORT_SCHEMA, AskedExport, read_export
from api.exports.desk import Desk
from api.exports.job import Call, Item, Job, State, Wanted, new_id
from api.exports.look import Look, between, described, look
from api.exports.webhook import allowed
from api.filebytes import FileBytes
from api.holds import author, camera_records, reaches_all
from api.media import MEDIA
from api.parameters import Parameter, identifier, json_body, one_of, wrong
from api.problems import Problem, scrub
from api.routes import ADMIN, ROOT, Answer, Route
from api.sending import send_file
from api.side import SIDE
from api.times import rfc3339
from recorder.base.errors import Gone, NotFound, StorageError

EXPORT = frozenset({Scope.EXPORT})
DESK = web.AppKey("exports", Desk)
ID = re.compile(r"[0-9a-f]{32}")
KEY = re.compile(r"[\x21-\x7e]{1,255}")
KEY_HEADER = "Idempotency-Key"
HEAD_BYTES = 65_536           # of a file's tables, added to what its rows take


def _after(text: str) -> str:
    if not ID.fullmatch(text):
        raise ValueError("must be the `next` of an earlier page")
    return text


AFTER = Parameter("cursor", _after, {"type": "string"}, "`next` of the page before.", "")
STATE = Parameter("state", one_of(*State), {"enum": [*State]}, "Only those in this state.", "")
CAMERA = Parameter("camera", identifier, {"type": "string"}, "Only those of this camera.", "")
DRY_RUN = Parameter("dry_run", one_of("", "0", "1"), {"enum": ["", "0", "1"]}, "Present: only say what there is, and make nothing.", "0")


async def create(request: web.Request) -> web.Response:
    """202 with the new job, 200 with the one that the same Idempotency-Key has made, or with what there is (dry run)."""
    desk, grant = request.app[DESK], request[keys.GRANT]
    body = await json_body(request)
    now_ns = request.app[keys.CLOCK].wall_ns()
    key, digest = _key(request, grant), hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
    dry = DRY_RUN.of(request) != "0"
    if key and not dry and (made := desk.by_key(key, digest)) is not None:
        return web.json_response(said(desk, made, grant))
    asked = read_export(body, now_ns)
    items = tuple(_item(request, f"items.{at}.camera", item.camera, item.track, item.start, item.end) for at, item in enumerate(asked.items))
    looks = [await request.app[SIDE].run(look, item) for item in items]
    nbytes = sum(found.nbytes + HEAD_BYTES for found in looks)
    if dry:
        return web.json_response({"bytes": nbytes, "items": [described(found) for found in looks]})
    _anything(looks)
    if key and (made := desk.by_key(key, digest)) is not None:      # while we looked
        return web.json_response(said(desk, made, grant))
    call = _call(request, asked.webhook)
    desk.room(grant.holder, nbytes)
    job = Job(new_id(now_ns), _wanted(asked, items), author(grant), now_ns, nbytes, key, digest, call=call, holder=grant.holder)
    with _answerable():
        job = await desk.take(job)
    return web.json_response(said(desk, job, grant), status=202, headers={"Location": f"{ROOT}/exports/{job.id}"})


def _key(request: web.Request, grant: Grant) -> str:
    texts = request.headers.getall(KEY_HEADER, [])
    if not texts:
        return ""
    text = texts[0]
    if len(texts) > 1 or not KEY.fullmatch(text):
        raise wrong(KEY_HEADER, "must be 1 to 255 visible ASCII characters, given once")
    return hashlib.sha256(f"{grant.holder}\n{text}".encode()).hexdigest()


def _item(request: web.Request, where: str, camera_id: str, track: str, start_ns: int, end_ns: int) -> Item:
    found = list(camera_records(request.app[keys.REGISTRY], request[keys.GRANT], where, camera_id))
    camera = next((camera for camera in found if camera.removed_ns is None), found[-1])
    return Item(camera.number, camera.id, track, start_ns, end_ns)


def _call(request: web.Request, address: str) -> Call | None:
    """Whom to tell in the end. Problem 422 unless the configuration allows that address."""
    if not address:
        return None
    if not allowed(address, request.app[keys.SITE].exports.webhooks):
        raise Problem(422, "webhooks may not call this address", parameter="webhook", remedy="ask for it to be named in exports.webhooks")
    return Call(address, "msg_" + secrets.token_hex(16))


def _wanted(asked: AskedExport, items: tuple[Item, ...]) -> Wanted:
    return Wanted(items, asked.format, asked.gaps == "close", asked.audio == "source", asked.reference, asked.reason, asked.priority)


def _anything(looks: Iterable[Look]) -> None:
    """Raises Problem 404 or Gone where there is no footage at all."""
    looks = list(looks)
    if any(found.nbytes for found in looks):
        return
    if all(found.expired and not found.gaps and not found.missing for found in looks):
        raise Gone("this footage has been retired", where="export")
    raise Problem(404, "nothing was recorded in what is asked for", items=[described(found) for found in looks])


async def listing(request: web.Request) -> web.Response:
    """A page of the exports all of whose cameras are within reach, the newest first."""
    desk, limit, after, state, camera = request.app[DESK], LIMIT.of(request), AFTER.of(request), STATE.of(request), CAMERA.of(request)
    matching = (job for job in desk.jobs() if (not after or job.id < after) and (not state or job.state == state)
                and (not camera or any(item.camera == camera for item in job.wanted.items))
                and reaches_all(request[keys.GRANT], request.app[keys.REGISTRY], job.wanted.cameras()))
    found = list(islice(matching, limit + 1))       # of ten thousand jobs no more is looked at than an answer takes
    page = found[:limit]
    items = [said(desk, job, request[keys.GRANT]) for job in page]
    return web.json_response({"items": items, "next": page[-1].id if len(found) > limit else None})


async def show(request: web.Request) -> web.Response:
    """One job."""
    return web.json_response(said(request.app[DESK], _job(request), request[keys.GRANT]))


async def cancel(request: web.Request) -> web.Response:
    """End it, or take it away with its file; answers what it was."""
    grant = request[keys.GRANT]
    with _answerable():
        job = await request.app[DESK].cancel(_job(request), author(grant), grant.holder)
    return web.json_response(said(request.app[DESK], job, grant))


async def result(request: web.Request) -> web.StreamResponse:
    """GET and HEAD of the file."""
    job = _job(request)
    made = job.result
    if made is None:
        raise Problem(409, f"the export is {job.state}", remedy="wait until it is done" if not job.ended else "ask for it again")
    with request.app[CLIPS].take(request[keys.GRANT].holder):
        source = await _given(request, job, shelf.RESULT)
        return await send_file(request, source, etag=f'"{made.sha256}"', headers={
            "Content-Type": made.media_type, "Repr-Digest": repr_digest(made.sha256), "Cache-Control": "private, no-cache",
            "Content-Disposition": f'attachment; filename="{made.name}"'})


async def manifest(request: web.Request) -> web.StreamResponse:
    """GET and HEAD of the manifest."""
    job = _job(request)
    if job.result is None:
        raise Problem(409, f"the export is {job.state}", remedy="wait until it is done" if not job.ended else "ask for it again")
    headers = {"Content-Type": "application/json", "Cache-Control": "private, no-cache"}
    source = await _given(request, job, shelf.MANIFEST)
    return await send_file(request, source, etag=f'"{job.id}"', headers=headers)


async def _given(request: web.Request, job: Job, name: str) -> FileBytes:
    """A file of the job, to be closed; nobody is given one without a line in the audit."""
    source, grant = _open(request, job, name), request[keys.GRANT]
    try:
        if request.method == "GET":
            with _answerable():
                await request.app[DESK].note_fetch(job, name, author(grant), grant.holder)
    except BaseException:
        source.close()
        raise
    return source


@contextmanager
def _answerable() -> Iterator[None]:
    """What the disk refuses as an error that has an answer (503)."""
    try:
        yield
    except OSError as error:
        raise StorageError(f"the folder of exports cannot be written ({error.strerror})", where="exports") from error


def _open(request: web.Request, job: Job, name: str) -> FileBytes:
    try:
        if job.gone:
            raise FileNotFoundError
        return FileBytes(request.app[keys.SITE].exports_dir / job.id / name, request.app[MEDIA].cold.exports)
    except FileNotFoundError:
        raise Problem(410, "the file of this export is gone", remedy="ask for it again while its footage is there") from None


def repr_digest(sha256: str) -> str:
    """Repr-Digest (RFC 9530 3) of a hexadecimal SHA-256."""
    return f"sha-256=:{base64.b64encode(bytes.fromhex(sha256)).decode()}:"


def _job(request: web.Request) -> Job:
    job_id = request.match_info["export"]
    job = request.app[DESK].job(job_id) if ID.fullmatch(job_id) else None
    if job is None or not reaches_all(request[keys.GRANT], request.app[keys.REGISTRY], job.wanted.cameras()):
        raise NotFound("there is no such export", remedy="see the list of exports")
    return job


def said(desk: Desk, job: Job, grant: Grant) -> dict[str, Any]:
    """A job as JSON. Where its webhook leads is for whoever asked for it, and for an administrator: such addresses may hold a key."""
    run, wanted, made = desk.running(job.id), job.wanted, None if job.gone else job.result
    total = made.nbytes if made else run.total if run and run.total else job.expected_bytes
    done = made.nbytes if made else run.done if run else 0
    address = f"{ROOT}/exports/{job.id}"
    ours = grant.holder == job.holder or grant.may(ADMIN)
    return {
        "id": job.id, "state": job.state, "stage": run.stage if run and job.state is State.RUNNING else None,
        "items": [{"camera": item.camera, "number": item.number, "track": item.track, **between(item.start_ns, item.end_ns)}
                  for item in wanted.items],
        "format": wanted.format, "gaps": "close" if wanted.close_gaps else "keep", "audio": "source" if wanted.audio else "none",
        "reason": wanted.reason, "reference": wanted.reference, "priority": wanted.priority, "by": job.by,
        "created": rfc3339(job.created_ns), "started": _time(job.started_ns), "ended": _time(job.ended_ns), "expires": _time(job.expires_ns),
        "bytes": total, "done_bytes": done, "progress": 1.0 if job.state is State.DONE else min(1.0, done / total) if total else 0.0,
        "eta_s": round(run.eta_s, 1) if run and job.state is State.RUNNING and run.eta_s is not None else None,
        "error": {"message": scrub(job.failure.message), "remedy": scrub(job.failure.remedy)} if job.failure else None,
        "webhook": {"address": job.call.address if ours else None, "id": job.call.id, "tries": job.call.tries,
                    "delivered": _time(job.call.done_ns), "given_up": job.call.given_up, "error": job.call.error} if job.call else None,
        "result": {"name": made.name, "media_type": made.media_type, "bytes": made.nbytes, "sha256": made.sha256, "complete": made.complete,
                   "address": f"{address}/result", "manifest": f"{address}/manifest"} if made else None,
    }


def _time(ns: int) -> str | None:
    return rfc3339(ns) if ns else None


def routes() -> list[Route]:
    """The routes of this module."""
    one = Parameter("export", str, {"type": "string", "pattern": "^[0-9a-f]{32}$"}, "The export's id.", place="path")
    key = Parameter(KEY_HEADER, str, {"type": "string", "maxLength": 255},
                    "The same key with the same body makes one export, however often it is sent.", "", place="header")
    file = Answer("the file, with ranges, a strong ETag and Repr-Digest (SHA-256)", media_type="application/octet-stream")
    address = f"{ROOT}/exports"
    return [
        Route("GET", address, listing, "List exports", scopes=EXPORT, parameters=(STATE, CAMERA, LIMIT, AFTER),
              answers={200: Answer("a page of exports, the newest first", "ExportPage")}, problems=(503,), tag="exports"),
        Route("POST", address, create, "Make a file of footage", scopes=EXPORT, looks=True, body=EXPORT_SCHEMA, parameters=(DRY_RUN, key),
              answers={202: Answer("the job", "Export"), 200: Answer("the job that this key made; or, for a dry run, what there is",
                                                                     {"oneOf": [{"$ref": "#/components/schemas/Export"},
                                                                                {"$ref": "#/components/schemas/ExportLook"}]})},
              problems=(404, 409, 410, 416, 422, 429, 503), tag="exports"),
        Route("GET", f"{address}/{{export}}", show, "One export", scopes=EXPORT, parameters=(one,), answers={200: Answer("the job", "Export")},
              problems=(404, 503), tag="exports"),
        Route("DELETE", f"{address}/{{export}}", cancel, "Cancel an export, or take its file away", scopes=EXPORT, parameters=(one,),
              answers={200: Answer("the job as it was", "Export")}, problems=(404, 503), tag="exports"),
        Route("GET", f"{address}/{{export}}/result", result, "The file", scopes=EXPORT, parameters=(one,), signable=True,
              answers={200: file, 206: file}, problems=(404, 409, 410, 412, 416, 429, 503), tag="exports"),
        Route("GET", f"{address}/{{export}}/manifest", manifest, "What is in it: gaps, damage, clocks, digests", scopes=EXPORT,
              parameters=(one,), signable=True, answers={200: Answer("the manifest", {"type": "object"})},
              problems=(404, 409, 410, 412, 503), tag="exports"),
    ]


def figures(page: Any, app: web.Application) -> None:
    """For /metrics."""
    desk = app[DESK]
    if not desk.ready:
        return
    states = [job.state for job in desk.jobs()]
    page.family("watchroom_exports", "gauge", "Exports by state.", [({"state": state}, states.count(state)) for state in State])
    page.family("watchroom_exports_bytes", "gauge", "What exports take of their quota, those in the making too.", [({}, desk.used_bytes())])
    page.family("watchroom_exports_bytes_max", "gauge", "The quota.", [({}, app[keys.SITE].exports.bytes_max)])


def tell(app: web.Application, job: Job) -> None:
    """A change of state as an event."""
    camera = job.wanted.items[0].camera if len(job.wanted.cameras()) == 1 else ""
    app[EVENTS].add("export", camera, export=job.id, state="expired" if job.gone else job.state.value)
