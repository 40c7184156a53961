"""From the world's journal to a pod's record: each entry is applied once, in order, and nothing else is believed.

The world writes an entry before it tells anybody, so what is heard here survives every crash; replaying the journal
over a record that has seen a part of it changes nothing twice.
"""

from __future__ import annotations

from collections.abc import Sequence

from headrace.node import lifecycle
from headrace.node.podspec import PodSpec
from headrace.node.record import PodRecord
from headrace.spec.kind import Json

_WORLD_ENDED = frozenset({"WorldLost", "Shutdown", "PodShutdown"})
"""Reasons of a world that was killed and of one that ended in order: of pods, and of the containers in them."""


def apply(entry: Json, pod: PodSpec, record: PodRecord, now: float) -> bool:
    """Apply one journal entry about this pod; tell whether it was news."""
    if int(entry["seq"]) <= record.journal_seq:
        return False
    record.journal_seq = int(entry["seq"])
    container = str(entry.get("container") or "")
    match entry["type"]:
        case "container-started" if container in pod.by_name:
            lifecycle.note_started(pod, record, container, int(entry["attempt"]), int(entry["wall_ns"]))
        case "container-exited" if container in pod.by_name and entry.get("reason") in _WORLD_ENDED:
            record.note_world_lost(int(entry["wall_ns"]), now)  # all of it, before anybody takes this for a failure
        case "container-exited" if container in pod.by_name:
            _exited(entry, record, container)
        case "pod-removed":
            _removed(entry, record, now)
    return True


def reconcile(pods: Sequence[Json], pod: PodSpec, record: PodRecord, now: float) -> None:
    """Make the record agree with the world's `state`: what it says runs, runs; what it does not know, is lost."""
    mine = next((one for one in pods if one.get("pod") == record.uid), None)
    if mine is None:
        if record.prepared and not record.released:
            started = [state.runs[-1].started_ns for state in record.containers.values() if state.is_running]
            record.note_world_lost(max(started, default=0), now)
        return
    for one in mine.get("containers") or []:
        name = str(one.get("container"))
        if name not in pod.by_name or not one.get("started"):
            continue
        attempt = int(one["attempt"])
        lifecycle.note_started(pod, record, name, attempt, int(one["started"]["wall_ns"]))
        if one.get("state") == "exited":
            _exited({**one, **one["finished"]}, record, name)


def _exited(entry: Json, record: PodRecord, container: str) -> None:
    reason = str(entry.get("reason") or "")
    record.of(container).note_exited(
        int(entry["attempt"]),
        int(entry["wall_ns"]),
        exit_code=int(entry.get("exit_code") or 0),
        signal=int(entry.get("signal") or 0),
        oom=reason == "OOMKilled" or bool(entry.get("oom")),
        message=str(entry.get("termination_message") or ""),
    )


def _removed(entry: Json, record: PodRecord, now: float) -> None:
    if entry.get("reason") in _WORLD_ENDED:
        record.note_world_lost(int(entry["wall_ns"]), now)
    elif entry.get("reason") != "Removed":
        record.prepared = False  # its pid 1 was killed, and only that: the pod is made again
