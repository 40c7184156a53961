"""Pod records on disk, so that an agent that was killed goes on where it was, and what to do when there is none.

A record is saved after every change. It holds what neither the world nor the API server knows: hooks, back-off, the
end that is under way. Where it is missing or broken, the pod's status and the world's state stand in for it.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from headrace.clock import parse_time
from headrace.node.podspec import PodSpec
from headrace.node.record import PodRecord, Run
from headrace.node.volumes.places import read_file, write_file
from headrace.spec.kind import Json
from headrace.telemetry import logger

RECORD_BROKEN = "record.broken"

_log = logger(component="checkpoint")
_decoder = msgspec.json.Decoder(PodRecord)
_encoder = msgspec.json.Encoder()


class Store:
    """Writes one pod's record when it has changed; a crash leaves the old one or the new one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._saved = b""

    def save(self, record: PodRecord) -> bool:
        """Write the record if it differs from what was written last; tell whether it did."""
        encoded = _encoder.encode(record)
        if encoded == self._saved:
            return False
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_file(self._path, encoded)
        self._saved = encoded
        return True


def load(path: Path) -> PodRecord | None:
    """Return the record saved last; None when there is none, or none that can be read."""
    saved = read_file(path)
    if saved is None:
        return None
    try:
        record = _decoder.decode(saved)
    except msgspec.DecodeError as error:
        _log.warning(RECORD_BROKEN, path=str(path), error=str(error))
        return None
    for container in record.containers.values():
        # The task that ran a hook ended with the agent: hooks run at least once.
        container.post_start = "" if container.post_start == "running" else container.post_start
        if container.stop and container.stop.pre_stop == "running":
            container.stop.pre_stop = ""
    return record


def from_status(pod: PodSpec) -> PodRecord:
    """Return what a pod's status tells of its history; for a pod never seen before, an empty record."""
    record = PodRecord(namespace=pod.namespace, name=pod.name, uid=pod.uid)
    record.address = str(pod.status.get("podIP") or "")
    if pod.status.get("startTime"):
        record.start_time = parse_time(str(pod.status["startTime"])).timestamp()
    entries = [*(pod.status.get("initContainerStatuses") or []), *(pod.status.get("containerStatuses") or [])]
    for entry in entries:
        attempt = int(entry.get("restartCount") or 0)
        state, last = entry.get("state") or {}, entry.get("lastState") or {}
        now, before = state.get("running") or state.get("terminated"), last.get("terminated")
        runs = []
        if before:
            runs.append(_run(before, attempt - 1 if now else attempt))
        if now:
            runs.append(_run(now, attempt))
        mine = record.of(str(entry["name"]))
        mine.runs = [run for run in runs if run is not None]
        mine.started, mine.ready = bool(entry.get("started")), bool(entry.get("ready"))
    record.prepared = record.any_running
    if pod.is_terminal:
        record.note_ending(str(pod.status.get("reason") or "Completed"), str(pod.status.get("message") or ""), 0.0, 0.0)
    return record


def _run(state: Json, attempt: int) -> Run | None:
    if not state.get("startedAt"):
        return None
    run = Run(attempt=attempt, started_ns=_ns(state["startedAt"]))
    if state.get("finishedAt"):
        run.finished_ns = _ns(state["finishedAt"])
        run.exit_code, run.signal = int(state.get("exitCode") or 0), int(state.get("signal") or 0)
        reason = str(state.get("reason") or "")
        run.oom = reason == "OOMKilled"
        run.reason = "" if reason in {"Completed", "Error", "OOMKilled"} else reason
        run.message = str(state.get("message") or "")
    return run


def _ns(text: str) -> int:
    return int(parse_time(text).timestamp() * 1e9)
