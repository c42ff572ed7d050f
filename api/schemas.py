"""The shapes of answers, for the description. A test holds real answers against them."""

from typing import Any

from recorder.base.media import DeletionCause

Schema = dict[str, Any]


def _object(properties: Schema, optional: tuple[str, ...] = (), **more: Any) -> Schema:
    required = [name for name in properties if name not in optional]
    return {"type": "object", "required": required, "properties": properties, **more}


def _or_null(schema: Schema) -> Schema:
    return {"oneOf": [schema, {"type": "null"}]}


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def ref(name: str) -> Schema:
    """A reference to one of COMPONENTS."""
    return {"$ref": f"#/components/schemas/{name}"}


TEXT: Schema = {"type": "string"}
WHOLE: Schema = {"type": "integer"}
NUMBER: Schema = {"type": "number"}
FLAG: Schema = {"type": "boolean"}
TIME: Schema = {"type": "string", "format": "date-time", "description": "UTC, nine digits, Z"}
NS_FIELD: Schema = {"type": "integer", "format": "int64", "description": "the same in ns since 1970"}
RANGE: Schema = {"start": TIME, "end": _or_null(TIME), "start_ns": NS_FIELD, "end_ns": _or_null(NS_FIELD)}
IN_FILE: Schema = {"start": TIME, "end": TIME, "start_ns": NS_FIELD, "end_ns": NS_FIELD, "at_s": NUMBER, "lasts_s": NUMBER}
STREAM = _object({"url": TEXT, "kbps": WHOLE, "ceiling_kbps": WHOLE, "transport": TEXT, "reorder_ms": WHOLE})

UNREADABLE: Schema = {
    **_list(_object({"volume": WHOLE, "cause": TEXT})),
    "description": "volumes whose disk cannot tell now what it has: everything here is without it",
}
SHARE: Schema = {
    "expected_s": NUMBER,
    "footage_s": NUMBER,
    "damaged_s": NUMBER,
    "completeness": _or_null({"type": "number", "minimum": 0, "maximum": 1}),
    "missing_s": {"type": "object", "additionalProperties": NUMBER, "description": "seconds by cause"},
    "unreadable": UNREADABLE,
}

HELD_RANGE: Schema = _object({"start": TIME, "end": TIME, "start_ns": NS_FIELD, "end_ns": NS_FIELD})
HOLD: Schema = _object(
    {
        "id": TEXT,
        "reason": TEXT,
        "reference": TEXT,
        "owner": TEXT,
        "created": TIME,
        "review": _or_null(TIME),
        "released": _or_null(TIME),
        "released_by": TEXT,
        "spans": _list(_object({"camera": _or_null(TEXT), "number": WHOLE, "track": TEXT, **HELD_RANGE["properties"]})),
    },
    description="track: empty for all tracks of the camera",
)

EXPORT_ITEM: Schema = _object({"camera": TEXT, "number": WHOLE, "track": TEXT, **HELD_RANGE["properties"]})
EXPORT: Schema = _object(
    {
        "id": TEXT,
        "state": {"enum": ["queued", "running", "done", "failed", "cancelled"]},
        "stage": _or_null(TEXT),
        "items": _list(EXPORT_ITEM),
        "format": TEXT,
        "gaps": {"enum": ["keep", "close"]},
        "audio": {"enum": ["source", "none"]},
        "reason": TEXT,
        "reference": TEXT,
        "priority": {"enum": ["low", "normal", "high"]},
        "by": TEXT,
        "created": TIME,
        "started": _or_null(TIME),
        "ended": _or_null(TIME),
        "expires": _or_null(TIME),
        "bytes": {"type": "integer", "description": "of the result; until that is planned, what is expected"},
        "done_bytes": WHOLE,
        "progress": {"type": "number", "minimum": 0, "maximum": 1},
        "eta_s": _or_null(NUMBER),
        "error": _or_null(_object({"message": TEXT, "remedy": TEXT})),
        "webhook": _or_null(
            _object({"address": _or_null(TEXT), "id": TEXT, "tries": WHOLE, "delivered": _or_null(TIME), "given_up": FLAG, "error": TEXT})
        ),
        "result": _or_null(
            _object({"name": TEXT, "media_type": TEXT, "bytes": WHOLE, "sha256": TEXT, "complete": FLAG, "address": TEXT, "manifest": TEXT})
        ),
    },
    description="result: null until it is done, and again once its file has gone",
)

COMPONENTS: dict[str, Schema] = {
    "Problem": _object(
        {"type": TEXT, "title": TEXT, "status": WHOLE, "detail": TEXT, "incident": TEXT, "parameter": TEXT},
        ("incident", "parameter"),
        description="RFC 9457; incident: find it in the server's log",
    ),
    "Health": _object({"status": TEXT}),
    "Link": _object({"address": TEXT, "expires": TIME}),
    "Position": _object(
        {"latitude": {"type": "number", "minimum": -90, "maximum": 90}, "longitude": {"type": "number", "minimum": -180, "maximum": 180}},
        description="WGS 84",
    ),
    "Track": _object({"name": TEXT, "codec": _or_null(TEXT), "kbps": WHOLE, "fps": NUMBER, "last_au": _or_null(TIME)}),
    "Camera": _object(
        {
            "id": TEXT,
            "number": WHOLE,
            "name": TEXT,
            "partner": TEXT,
            "site": TEXT,
            "purpose": TEXT,
            "position": _or_null(ref("Position")),
            "enabled": FLAG,
            "owner": {"enum": ["file", "api"], "description": "file: the configuration file names it, so it cannot be changed here"},
            "rule": _object(
                {
                    "days": NUMBER,
                    "bytes_max": WHOLE,
                    "own": FLAG,
                    "by": {"type": "string", "description": "which rule says the days"},
                    "days_min": NUMBER,
                    "tracks": {"type": "object", "additionalProperties": _object({"days": NUMBER, "days_min": NUMBER, "by": TEXT})},
                }
            ),
            "state": {"type": "string", "description": "recording, connecting, offline, disabled, unknown, ..."},
            "since": _or_null(TIME),
            "last_au": _or_null(TIME),
            "kbps": WHOLE,
            "gap": _or_null(_object({"cause": TEXT, "start": _or_null(TIME)})),
            "tracks": _list(ref("Track")),
            "source": _object(
                {
                    "main": STREAM,
                    "sub": _or_null(STREAM),
                    "user": TEXT,
                    "password_set": _or_null(FLAG),
                    "audio": FLAG,
                    "metadata": FLAG,
                    "g726_order": {"enum": ["sdp", "rfc3551", "aal2"]},
                    "basic_without_tls": FLAG,
                    "tls_fingerprint": TEXT,
                    "tls_insecure": FLAG,
                    "stall_s": NUMBER,
                },
                description="only with the scope admin; the password itself never",
            ),
        },
        ("source",),
    ),
    "CameraPage": _object({"items": _list(ref("Camera")), "next": _or_null(TEXT)}, description="next: the cursor of the next page"),
    "Timeline": _object(
        {
            "camera": TEXT,
            "track": TEXT,
            **RANGE,
            "expected_s": NUMBER,
            "footage_s": NUMBER,
            "damaged_s": NUMBER,
            "bytes": WHOLE,
            "completeness": _or_null({"type": "number", "minimum": 0, "maximum": 1}),
            "spans": _list(_object(RANGE)),
            "gaps": _list(_object({**RANGE, "cause": TEXT, "from": TIME})),
            "damage": _list(_object(RANGE)),
            "holds": _list(_object(RANGE)),
            "left_out": WHOLE,
            "unreadable": UNREADABLE,
            "steps": _or_null(_list(NUMBER)),
        },
        description="left_out: gaps shorter than resolution. steps: share of each step that has footage. from: where the gap really begins",
    ),
    "Contents": _object(
        {
            "start": TIME,
            "end": TIME,
            "start_ns": NS_FIELD,
            "end_ns": NS_FIELD,
            "first": TIME,
            "first_ns": NS_FIELD,
            "gaps": {"enum": ["keep", "close"]},
            "frames": WHOLE,
            "complete": FLAG,
            "cameras": _list(
                _object(
                    {
                        "camera": TEXT,
                        "frames": WHOLE,
                        "first": TIME,
                        "last": TIME,
                        "in_file": _list(TEXT),
                        "tracks": _list(
                            _object(
                                {
                                    "track": TEXT,
                                    "footage_s": NUMBER,
                                    "gaps": _list(_object({**IN_FILE, "cause": TEXT})),
                                    "damage": _list(_object(IN_FILE)),
                                    "left_out": WHOLE,
                                    "unreadable": UNREADABLE,
                                }
                            )
                        ),
                    }
                )
            ),
            "missing": _list(_object({"camera": TEXT, "reason": TEXT, "pending": FLAG})),
        },
        description="first: UTC of media time 0; at_s, lasts_s: media time in the file; missing: cameras that have nothing in it",
    ),
    "Minutes": _object(
        {
            "camera": TEXT,
            "track": TEXT,
            "start": TIME,
            "start_ns": NS_FIELD,
            "step_s": WHOLE,
            "steps": WHOLE,
            "bytes": _list(WHOLE),
            "frames": _list(WHOLE),
            "key_interval_s": _list(_or_null(NUMBER)),
            "footage_s": _list(NUMBER),
            "missing_s": _list(NUMBER),
            "damaged_s": _list(NUMBER),
            "unreadable": UNREADABLE,
        },
        description="an element for each step from start on, a whole minute; empty lists of a track without footage. key_interval_s: mean "
        "distance of key frames, null without any. missing_s: time between the track's first and last footage that has none",
    ),
    "Documents": _object(
        {
            "camera": TEXT,
            "items": _list(
                _object(
                    {
                        "time": TIME,
                        "time_ns": WHOLE,
                        "encoding": {"type": "string", "description": "vnd.onvif.metadata, vnd.onvif.metadata.gzip, ..."},
                        "text": _or_null(TEXT),
                        "base64": _or_null(TEXT),
                    }
                )
            ),
            "next": _or_null(TIME),
        },
        description="text: XML as it was sent; base64: what is compressed or no UTF-8",
    ),
    "CompletenessPage": _object(
        {"by": TEXT, "per": TEXT, "items": _list(ref("CompletenessOf")), "next": _or_null(TEXT)},
        description="next: the cursor of the next page",
    ),
    "CompletenessOf": _object(
        {"name": TEXT, "cameras": WHOLE, **SHARE, "periods": _list(_object({**RANGE, **SHARE}))},
        description="name: a camera's id, a partner or a site; empty for cameras without one",
    ),
    "DeletionPage": _object(
        {
            "items": _list(
                _object(
                    {
                        "camera": _or_null(TEXT),
                        "number": WHOLE,
                        "track": TEXT,
                        "start": TIME,
                        "end": TIME,
                        "rows": WHOLE,
                        "bytes": WHOLE,
                        "cause": {"enum": [cause.word for cause in DeletionCause]},
                        "rule": TEXT,
                        "unreadable": TIME,
                        "erased": _or_null(TIME),
                    }
                )
            ),
            "next": _or_null(TEXT),
        },
        description="start, end: of the footage. unreadable: since when all of it is. erased: since when nothing of it is on the volume; "
        "null: not yet. camera: null for one that the catalogue does not know",
    ),
    "Hold": HOLD,
    "HoldPage": _object({"items": _list(ref("Hold")), "next": _or_null(TEXT)}, description="next: the cursor of the next page"),
    "Export": EXPORT,
    "ExportPage": _object({"items": _list(ref("Export")), "next": _or_null(TEXT)}, description="next: the cursor of the next page"),
    "ExportLook": _object(
        {
            "bytes": {"type": "integer", "description": "about what the result will take"},
            "items": _list(
                _object(
                    {
                        **EXPORT_ITEM["properties"],
                        "expected_s": NUMBER,
                        "footage_s": NUMBER,
                        "damaged_s": NUMBER,
                        "bytes": WHOLE,
                        "completeness": _or_null(NUMBER),
                        "gaps": _list(_object({**RANGE, "cause": TEXT})),
                        "damage": _list(HELD_RANGE),
                        "expired": _list(HELD_RANGE),
                        "missing": _list(HELD_RANGE),
                        "left_out": {"type": "integer", "description": "gaps and ranges beyond the first 1,000 of each"},
                        "unreadable": UNREADABLE,
                    }
                )
            ),
        },
        description="expired: taken by retention; missing: not recorded yet, or never",
    ),
    "HoldTaken": _object(
        {**HOLD["properties"], "found": _list(_object({"camera": _or_null(TEXT), "number": WHOLE, "track": TEXT, "kept": _list(HELD_RANGE),
                                                      "too_late": _list(HELD_RANGE)})), "pending": _list(WHOLE)},
        description="found: per track, what of the time is kept (and will be), and what had been retired before. pending: slots that have yet "
        "to take it",
    ),
    "HoldReleased": _object({**HOLD["properties"], "pending": _list(WHOLE)}),
    "Clocks": _object(
        {
            "camera": TEXT,
            "track": TEXT,
            "reports": _list(_object({"arrival": TIME, "camera_time_ns": NS_FIELD, "ahead_s": NUMBER})),
            "left_out": WHOLE,
            "steps": _list(_object({"time": TIME, "step_s": NUMBER})),
        },
        description="ahead_s: the camera's clock less ours, the report's way through the network included",
    ),
    "System": _object(
        {
            "name": TEXT,
            "version": TEXT,
            "time": TIME,
            "cameras": {"type": "object", "additionalProperties": WHOLE},
            "slots": _list(_object({"number": WHOLE, "state": TEXT})),
            "volumes": _list(
                _object(
                    {
                        "number": WHOLE,
                        "uuid": _or_null(TEXT),
                        "state": {"enum": ["used", "drained", "failed", "unknown"]},
                        "kbps": WHOLE,
                        "slow": FLAG,
                        "proven": FLAG,
                        "bytes": _or_null(WHOLE),
                        "free_bytes": _or_null(WHOLE),
                    }
                )
            ),
            "api": _object({"started": TIME, "connections": WHOLE, "listeners": WHOLE, "loop_lag_ms": NUMBER}),
        }
    ),
}
