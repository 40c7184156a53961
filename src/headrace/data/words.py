"""What a client's pod says about itself in its status: its last words, and what keeps it from starting. Pure.

The reason a person needs is almost always the client's own last words. They are in its container's termination
message, or, of a client that hangs, in its log.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from headrace.spec.conditions import find_condition
from headrace.spec.kind import Doc, Json
from headrace.spec.names import MATERIALISE_PREFIX, SIDECAR_PREFIX

HOPELESS = frozenset(
    {
        "ErrImagePull",
        "ImagePullBackOff",
        "InvalidImageName",
        "ErrImageNeverPull",
        "CreateContainerConfigError",
        "CreateContainerError",
        "RunContainerError",
    }
)
"""Reasons for which a container waits that waiting does not mend."""
_LAST_WORDS = 600
_LAST_LINES = 3
_NUMBERS = re.compile(r"\d+")


def tail(text: str) -> str:
    """Return the end of a log as one line of bounded length; what was said again and again is there once."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    by_wording = {_NUMBERS.sub("", line): line for line in lines}
    joined = " | ".join(list(by_wording.values())[-_LAST_LINES:])
    return joined if len(joined) <= _LAST_WORDS else f"…{joined[-_LAST_WORDS:]}"


def ended(sentence: str) -> str:
    """Return a sentence with its full stop."""
    return sentence if sentence.endswith((".", "!", "?")) else f"{sentence}."


def last_words(pod: Doc[Any]) -> str:
    """Return the termination message of whoever failed, the client first: the app only says that it saw nothing.

    A client of ours that had served leaves its counters there, as JSON; its words are then in its log.
    """
    for status in sorted(statuses(pod), key=lambda status: not is_client(status)):
        for state in (status.get("state") or {}, status.get("lastState") or {}):
            terminated = state.get("terminated") or {}
            message = str(terminated.get("message") or "").strip()
            if terminated.get("exitCode") and message and not message.startswith("{"):
                return tail(message)
    return ""


def cannot_start(status: Json) -> str:
    """Return the sentence why a container cannot be started, by its status; empty when nothing says so."""
    waiting = (status.get("state") or {}).get("waiting") or {}
    if waiting.get("reason") not in HOPELESS:
        return ""
    return f"Container {status['name']} cannot be started: {waiting['reason']}. {waiting.get('message', '')}".strip()


def statuses(pod: Doc[Any]) -> Iterator[Json]:
    """Yield the statuses of all containers, init containers first."""
    yield from pod.status.get("initContainerStatuses") or []
    yield from pod.status.get("containerStatuses") or []


def is_client(status: Json) -> bool:
    """Tell whether a container's status is that of a Dataset's client."""
    return str(status.get("name", "")).startswith((SIDECAR_PREFIX, MATERIALISE_PREFIX))


def unschedulable(pod: Doc[Any]) -> str:
    """Return what keeps the pod from any node, where the scheduler says so."""
    return _why_not(pod, "PodScheduled")


def unmounted(pod: Doc[Any]) -> str:
    """Return what keeps the node from mounting the pod's volumes, where it says so."""
    return tail(_why_not(pod, "PodReadyToStartContainers"))


def _why_not(pod: Doc[Any], type: str) -> str:
    said = find_condition(pod, type) or {}
    return str(said.get("message") or "") if said.get("status") == "False" else ""
