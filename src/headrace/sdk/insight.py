"""What a job's storage clients read and fetched, from their own counters, as they left them when they ended."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from headrace.fuse.counters import Counters, parse_message
from headrace.sdk.jobs import worker_name
from headrace.spec.kind import Doc, Json
from headrace.spec.names import DATASET_NAME_LABEL_PREFIX, SIDECAR_PREFIX


class ClientUse(NamedTuple):
    """One storage client of one worker. What a client does not count is None, never 0."""

    worker: str
    dataset: str
    counters: Counters


def client_use(pods: Iterable[Doc[Any]]) -> list[ClientUse]:
    """Return the counters of all storage clients that have ended, by worker."""
    found = []
    for pod in pods:
        for status in pod.status.get("initContainerStatuses") or []:
            counters = _counters(status)
            if counters is not None:
                dataset = pod.labels.get(f"{DATASET_NAME_LABEL_PREFIX}{status['name']}", "")
                found.append(ClientUse(worker_name(pod), dataset, counters))
    return found


def _counters(status: Json) -> Counters | None:
    if not status["name"].startswith(SIDECAR_PREFIX):
        return None
    ended = (status.get("state") or {}).get("terminated") or {}
    return parse_message(ended.get("message") or "")


def total(values: Iterable[int | None]) -> int | None:
    """Return the sum, or None when any part is unknown or there is none."""
    known = list(values)
    return sum(v for v in known if v is not None) if known and None not in known else None
