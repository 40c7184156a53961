"""Watch streams: one JSON document a line, in batches, until the client goes, the time is up or history is lost.

An idle watch costs one waiting task and one timer. Encoded events are shared between the watchers of one kind, because
a cluster's controllers all see the same change.
"""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping
from typing import Any

import anyio
import msgspec
from starlette.responses import Response, StreamingResponse

from headrace.clock import Clock
from headrace.engine.facade import answers
from headrace.engine.facade.bodies import number
from headrace.engine.facade.media import Form
from headrace.engine.pipeline.request import WatchEvent, WatchStream
from headrace.engine.pipeline.status import from_error
from headrace.engine.tables.table import IncludeObject
from headrace.errors import HeadraceError, InvalidSpec
from headrace.spec.kind import Json, Kind

# A real API server ends a watch without timeoutSeconds after 30 to 60 minutes, so that they do not end all at once.
_LEAST_S = 1800
_SHARED_AT_MOST = 512

_encoder = msgspec.json.Encoder()


def sends_initial_events(query: Mapping[str, str]) -> bool:
    """Return whether the watch begins with all objects (WatchList); raises InvalidSpec where the options disagree."""
    if query.get("sendInitialEvents", "").lower() not in {"true", "1"}:
        return False
    if query.get("watch", "").lower() not in {"true", "1"}:
        raise _invalid("sendInitialEvents", "is for a watch only")
    if query.get("resourceVersionMatch") != "NotOlderThan":
        raise _invalid("resourceVersionMatch", "must be NotOlderThan where sendInitialEvents is set")
    return True


def timeout_s(query: Mapping[str, str]) -> float:
    """Return after how many seconds the watch ends."""
    asked = number(query.get("timeoutSeconds", "0"), "timeoutSeconds")
    return float(asked) if asked > 0 else _LEAST_S * (1 + random.random())  # noqa: S311 spreads load, no secret


def stream(
    events: WatchStream,
    kind: Kind[Any],
    form: Form,
    clock: Clock,
    *,
    include: IncludeObject,
    timeout_s: float,
) -> StreamingResponse:
    """Return the response that sends `events` in the accepted form; an error on the way becomes the last event."""
    lines = _plain_lines(events) if not form.transform else _changed_lines(events, kind, form, clock, include)
    return StreamingResponse(_bounded(lines, timeout_s), media_type="application/json")


def refused(error: HeadraceError) -> Response:
    """Return the response of a watch that cannot begin: a stream of its error alone, as a real API server answers."""
    return Response(_error_line(error), media_type="application/json")


async def _bounded(lines: AsyncIterator[bytes], timeout_s: float) -> AsyncIterator[bytes]:
    deadline = anyio.current_time() + timeout_s
    while True:
        chunk = b""
        with anyio.move_on_at(deadline):
            chunk = await anext(lines, b"")
        if not chunk:
            return
        yield chunk


async def _plain_lines(events: WatchStream) -> AsyncIterator[bytes]:
    try:
        while batch := await events.batch():
            yield b"".join([_encoded.of(event) for event in batch])
    except HeadraceError as error:
        yield _error_line(error)


async def _changed_lines(
    events: WatchStream, kind: Kind[Any], form: Form, clock: Clock, include: IncludeObject
) -> AsyncIterator[bytes]:
    headers = True
    try:
        while batch := await events.batch():
            lines = []
            for event in batch:
                body = answers.transformed(kind, event.object, form, clock.now(), include=include, headers=headers)
                lines.append(_line(event.type, body))
                headers = False
            yield b"".join(lines)
    except HeadraceError as error:
        yield _error_line(error)


def _error_line(error: HeadraceError) -> bytes:
    return _line("ERROR", from_error(error))


def _line(type_name: str, body: Json) -> bytes:
    return _encoder.encode({"type": type_name, "object": body}) + b"\n"


class _SharedEncodings:
    """The lines of the latest events, by identity of their object: each is encoded once, not once a watcher."""

    def __init__(self) -> None:
        self._lines: OrderedDict[tuple[int, str], tuple[Json, bytes]] = OrderedDict()

    def of(self, event: WatchEvent) -> bytes:
        # The object is kept beside its line, so an identity cannot be taken over by another object meanwhile.
        key = (id(event.object), event.type)
        known = self._lines.get(key)
        if known is not None:
            return known[1]
        line = _line(event.type, event.object)
        self._lines[key] = (event.object, line)
        if len(self._lines) > _SHARED_AT_MOST:
            self._lines.popitem(last=False)
        return line


_encoded = _SharedEncodings()


def _invalid(field: str, sentence: str) -> InvalidSpec:
    return InvalidSpec(f"{field} {sentence}.", hint="Change the watch's options.", causes=((field, sentence),))
