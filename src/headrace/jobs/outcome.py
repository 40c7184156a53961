"""How an attempt ended, from its pods, and whether another one is due. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from headrace.pods.worker import MAIN_CONTAINER
from headrace.spec.kind import Doc, Json


class Outcome(msgspec.Struct, frozen=True):
    """`kind` is one of TrainJob's outcomes; `message` names the worker and what it said last."""

    kind: str
    reason: str
    message: str
    exit_code: int | None = None


def is_dead(pod: Doc[Any]) -> bool:
    """Tell whether none of the pod's containers can run any more, as its node has proved."""
    return pod.status.get("phase") in {"Succeeded", "Failed"}


def failure(pods: Sequence[Doc[Any]]) -> Outcome | None:
    """Return the outcome of the worker that failed first, or None while none has."""
    failed = [pod for pod in pods if pod.status.get("phase") == "Failed"]
    if not failed:
        return None
    first = min(failed, key=lambda pod: (_ended_at(pod), pod.name))
    reason = first.status.get("reason") or ""
    if reason in {"NodeLost", "Preempted"}:
        return Outcome(reason, reason, first.status.get("message") or f"{first.name} lost its node.")
    ended, container = _worst(first)
    code = ended.get("exitCode")
    said = (ended.get("message") or first.status.get("message") or "").strip()
    what = f"{container} of {first.name}" if container != MAIN_CONTAINER else first.name
    if code is None:
        return Outcome("Failed", reason or "PodFailed", f"{what} failed: {said or reason or 'no reason was given'}")
    signal = f" (signal {ended['signal']})" if ended.get("signal") else ""
    message = f"{what} exited with code {code}{signal}"
    if ended.get("reason") == "OOMKilled":
        message = f"{what} was killed because it used more memory than its limit"
    return Outcome("Failed", ended.get("reason") or "Error", message + (f": {_last_line(said)}" if said else ""), code)


def _worst(pod: Doc[Any]) -> tuple[Json, str]:
    """Return the terminated state that made the pod fail, and its container: the user's own before the others."""
    entries = [*(pod.status.get("containerStatuses") or []), *(pod.status.get("initContainerStatuses") or [])]
    for entry in sorted(entries, key=lambda e: e.get("name") != MAIN_CONTAINER):
        ended = (entry.get("state") or {}).get("terminated")
        if ended and ended.get("exitCode"):
            return ended, entry["name"]
    return {}, MAIN_CONTAINER


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""


def _ended_at(pod: Doc[Any]) -> str:
    ended, _ = _worst(pod)
    return ended.get("finishedAt") or "9"


def exit_code_of(attempt: Json) -> int | None:
    """Return the exit code a failed job passes on; None where no worker exited with one."""
    code = attempt.get("exitCode")
    return code if isinstance(code, int) else None


def retry_is_due(job: Doc[Any], attempts: Sequence[Json]) -> bool:
    """Tell whether the attempt that has just ended is to be followed by another.

    A start that timed out is the pool's failure, not the job's: it is always queued again and counts for nothing.
    """
    last = attempts[-1]
    if last["outcome"] == "StartTimeout":
        return True
    retry = job.spec.get("retry") or {}
    reasons = retry.get("on", ["NodeLost", "Preempted"])
    counted = [a for a in attempts if a.get("outcome") in {"NodeLost", "Preempted", "Failed"}]
    return (
        last["outcome"] in reasons
        and last.get("reason") != "DeadlineExceeded"
        and len(counted) <= int(retry.get("limit", 3))
    )
