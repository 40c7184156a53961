"""What a probe pod says: verified, not verified and why, or not yet. Pure.

The reason a person needs is almost always the client's own last words. They are in its container's termination
message, or, of a client that hangs, in its log; what the kubelet could not do is in the pod's events.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from headrace.clock import parse_time
from headrace.data.verify.pod import APP
from headrace.spec.conditions import find_condition
from headrace.spec.kind import Doc, Json
from headrace.spec.names import MATERIALISE_PREFIX, SIDECAR_PREFIX

_HOPELESS = {
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "ErrImageNeverPull",
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
}
_CRASHES = 2
"""A client that ended so often will not serve the third time."""
_UNSCHEDULABLE_AFTER_S = 30.0
_LAST_WORDS = 600
_LAST_LINES = 3
_UNMOUNTABLE_AFTER_S = 20.0
_STORAGE_CURE = "Mostly the storage's address or Secret is wrong. A changed profile or Secret is tried at once."
_IMAGE_CURE = "Correct image or command of the profile."
_NUMBERS = re.compile(r"\d+")
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
    for status in _statuses(pod):
        waiting = (status.get("state") or {}).get("waiting") or {}
        if waiting.get("reason") in _HOPELESS:
            what = f"Container {status['name']} cannot be started: {waiting['reason']}."
            what = f"{what} {waiting.get('message', '')}".strip()
            return _failed(waiting["reason"], what, pod, Evidence(), _IMAGE_CURE)
        if _is_client(status) and int(status.get("restartCount") or 0) >= _CRASHES:
            return _failed("ClientCrashes", "The client keeps ending before its mount is served.", pod, evidence)
    unplaced = _unschedulable(pod)
    if unplaced and age_s > _UNSCHEDULABLE_AFTER_S:
        return Outcome(
            verified="Unknown", reason="Unschedulable", message=f"No node of the pool can take a probe pod: {unplaced}"
        )
    unmounted = _unmounted(pod)
    if unmounted and age_s > _UNMOUNTABLE_AFTER_S:
        return _failed("NotMounted", unmounted, pod, Evidence(evidence.log))  # its warning says the same, cut elsewhere
    if age_s > deadline_s:
        return _failed("NotServed", f"Nothing was served within {deadline_s:g} s.", pod, evidence)
    return None


def wants_evidence(pod: Doc[Any], now: dt.datetime, deadline_s: float) -> bool:
    """Tell whether the verdict is near and the pod itself may not say enough."""
    judged = outcome(pod, Evidence(), now, deadline_s)
    return judged is not None and judged.verified == "False" and not _last_words(pod)


def client_container(pod: Doc[Any]) -> str:
    """Return the name of the probe's client container; empty in mode native, which has none."""
    names = [str(container.get("name", "")) for container in pod.spec.get("initContainers") or []]
    return next((name for name in names if name.startswith((SIDECAR_PREFIX, MATERIALISE_PREFIX))), "")


def tail(text: str) -> str:
    """Return the end of a log as one line of bounded length; what was said again and again is there once."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    by_wording = {_NUMBERS.sub("", line): line for line in lines}
    joined = " | ".join(list(by_wording.values())[-_LAST_LINES:])
    return joined if len(joined) <= _LAST_WORDS else f"…{joined[-_LAST_WORDS:]}"


def _failed(reason: str, what: str, pod: Doc[Any], evidence: Evidence, cure: str = _STORAGE_CURE) -> Outcome:
    words = _last_words(pod) or tail(evidence.log)
    parts = [what]
    if words:
        parts.append(f"The client's last words: {words}")
    elif evidence.warning and evidence.warning not in what:
        parts.append(tail(evidence.warning))
    return Outcome(verified="False", reason=reason, message=" ".join(map(_ended, [*parts, cure])))


def _ended(sentence: str) -> str:
    return sentence if sentence.endswith((".", "!", "?")) else f"{sentence}."


def _last_words(pod: Doc[Any]) -> str:
    """Return the termination message of whoever failed, the client first: the app only says that it saw nothing.

    A client of ours that had served leaves its counters there, as JSON; its words are then in its log.
    """
    ended = sorted(_statuses(pod), key=lambda status: not _is_client(status))
    for status in ended:
        for state in (status.get("state") or {}, status.get("lastState") or {}):
            terminated = state.get("terminated") or {}
            message = str(terminated.get("message") or "").strip()
            if terminated.get("exitCode") and message and not message.startswith("{"):
                return tail(message)
    return ""


def _sizes(app: Json) -> tuple[int | None, int | None]:
    message = str((((app.get("state") or {}).get("terminated")) or {}).get("message") or "")
    match = _SIZES.search(message)
    if match is None:
        return None, None
    block, blocks, free, inodes, free_inodes = (int(number) for number in match.groups())
    used, files = block * (blocks - free), inodes - free_inodes
    return used if 0 < used < _ABSURD_BYTES else None, files if 0 < files < _ABSURD_BYTES else None


def _app(pod: Doc[Any]) -> Json:
    return next((status for status in _statuses(pod) if status.get("name") == APP), {})


def _statuses(pod: Doc[Any]) -> Iterator[Json]:
    yield from pod.status.get("initContainerStatuses") or []
    yield from pod.status.get("containerStatuses") or []


def _is_client(status: Json) -> bool:
    return str(status.get("name", "")).startswith((SIDECAR_PREFIX, MATERIALISE_PREFIX))


def _unschedulable(pod: Doc[Any]) -> str:
    return _why_not(pod, "PodScheduled")


def _unmounted(pod: Doc[Any]) -> str:
    """Return what keeps the node from mounting the pod's volumes, where it says so."""
    return tail(_why_not(pod, "PodReadyToStartContainers"))


def _why_not(pod: Doc[Any], type: str) -> str:
    said = find_condition(pod, type) or {}
    return str(said.get("message") or "") if said.get("status") == "False" else ""
