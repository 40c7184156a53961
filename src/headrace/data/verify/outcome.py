"""What a probe pod says: verified, not verified and why, or not yet. Pure.

The reason a person needs is almost always the client's own last words. They are in its container's termination
message, or, of a client that hangs, in its log; what the kubelet could not do is in the pod's events.
"""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass
from typing import Any, Literal

from headrace.clock import parse_time
from headrace.data.verify.pod import APP
from headrace.data.words import cannot_start, ended, is_client, last_words, statuses, tail, unmounted, unschedulable
from headrace.spec.kind import Doc, Json
from headrace.spec.names import MATERIALISE_PREFIX, SIDECAR_PREFIX

_CRASHES = 2
"""A client that ended so often will not serve the third time."""
_UNSCHEDULABLE_AFTER_S = 30.0
_UNMOUNTABLE_AFTER_S = 20.0
_STORAGE_CURE = "Mostly the storage's address or Secret is wrong. A changed profile or Secret is tried at once."
_IMAGE_CURE = "Correct image or command of the profile."
_SIZES = re.compile(r"(\d+) (\d+) (\d+) (\d+) (\d+)")
_ABSURD_BYTES = 2**60
"""Clients that do not know their size say an exbibyte, or nothing used at all."""


@dataclass(frozen=True)
class Evidence:
    """What had to be asked for besides the pod: the client's log, and the latest warning about the pod."""

    log: str = ""
    warning: str = ""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a probe ended. `used_bytes` and `files` are None where the file system does not know."""

    verified: Literal["True", "False", "Unknown"]
    reason: str
    message: str
    used_bytes: int | None = None
    files: int | None = None


def outcome(pod: Doc[Any], evidence: Evidence, now: dt.datetime, deadline_s: float) -> Outcome | None:
    """Return how the probe ended; None while it may still succeed."""
    phase = pod.status.get("phase")
    if phase == "Succeeded":
        is_copy = client_container(pod).startswith(MATERIALISE_PREFIX)  # then it is the node's disk that was measured
        used, files = (None, None) if is_copy else _sizes(_app(pod))
        return Outcome(
            verified="True", reason="Listed", message="A probe pod has listed it.", used_bytes=used, files=files
        )
    age_s = (now - parse_time(pod.meta["creationTimestamp"])).total_seconds()
    if phase == "Failed":
        return _failed("ProbeFailed", "The probe pod failed.", pod, evidence)
    for status in statuses(pod):
        why_not = cannot_start(status)
        if why_not:
            return _failed(status["state"]["waiting"]["reason"], why_not, pod, Evidence(), _IMAGE_CURE)
        if is_client(status) and int(status.get("restartCount") or 0) >= _CRASHES:
            return _failed("ClientCrashes", "The client keeps ending before its mount is served.", pod, evidence)
    unplaced = unschedulable(pod)
    if unplaced and age_s > _UNSCHEDULABLE_AFTER_S:
        return Outcome(
            verified="Unknown", reason="Unschedulable", message=f"No node of the pool can take a probe pod: {unplaced}"
        )
    not_mounted = unmounted(pod)
    if not_mounted and age_s > _UNMOUNTABLE_AFTER_S:
        return _failed(
            "NotMounted", not_mounted, pod, Evidence(evidence.log)
        )  # its warning says the same, cut elsewhere
    if age_s > deadline_s:
        return _failed("NotServed", f"Nothing was served within {deadline_s:g} s.", pod, evidence)
    return None


def wants_evidence(pod: Doc[Any], now: dt.datetime, deadline_s: float) -> bool:
    """Tell whether the verdict is near and the pod itself may not say enough."""
    judged = outcome(pod, Evidence(), now, deadline_s)
    return judged is not None and judged.verified == "False" and not last_words(pod)


def client_container(pod: Doc[Any]) -> str:
    """Return the name of the probe's client container; empty in mode native, which has none."""
    names = [str(container.get("name", "")) for container in pod.spec.get("initContainers") or []]
    return next((name for name in names if name.startswith((SIDECAR_PREFIX, MATERIALISE_PREFIX))), "")


def _failed(reason: str, what: str, pod: Doc[Any], evidence: Evidence, cure: str = _STORAGE_CURE) -> Outcome:
    words = last_words(pod) or tail(evidence.log)
    parts = [what]
    if words:
        parts.append(f"The client's last words: {words}")
    elif evidence.warning and evidence.warning not in what:
        parts.append(tail(evidence.warning))
    return Outcome(verified="False", reason=reason, message=" ".join(map(ended, [*parts, cure])))


def _sizes(app: Json) -> tuple[int | None, int | None]:
    message = str((((app.get("state") or {}).get("terminated")) or {}).get("message") or "")
    match = _SIZES.search(message)
    if match is None:
        return None, None
    block, blocks, free, inodes, free_inodes = (int(number) for number in match.groups())
    used, files = block * (blocks - free), inodes - free_inodes
    return used if 0 < used < _ABSURD_BYTES else None, files if 0 < files < _ABSURD_BYTES else None


def _app(pod: Doc[Any]) -> Json:
    return next((status for status in statuses(pod) if status.get("name") == APP), {})
