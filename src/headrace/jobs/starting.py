"""What keeps a gang's pods from starting, in the words of whoever tried: scheduler, node, storage client. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from headrace.spec.conditions import find_condition
from headrace.spec.kind import Doc, Json

_TELLING = ("PodScheduled", "PodReadyToStartContainers")
_LAST_WORDS = 300


class Obstacle(NamedTuple):
    """A reason of CamelCase that stays while the sentence may change, and the sentence, which names the pod."""

    reason: str
    message: str


def obstacle(pods: Sequence[Doc[Any]]) -> Obstacle | None:
    """Return what the first pod that does not start waits for; None where none says anything."""
    pending = sorted((pod for pod in pods if pod.status.get("phase") == "Pending"), key=lambda pod: pod.name)
    return next((found for pod in pending for found in _of(pod)), None)


def _of(pod: Doc[Any]) -> Iterator[Obstacle]:
    for type_ in _TELLING:
        said = find_condition(pod, type_) or {}
        if said.get("status") == "False" and said.get("message"):
            yield Obstacle(str(said.get("reason") or type_), f"{pod.name}: {said['message']}")
    for entry in _containers(pod):
        waiting = (entry.get("state") or {}).get("waiting") or {}
        if waiting.get("message"):
            before = (entry.get("lastState") or {}).get("terminated") or {}
            words = " ".join(str(before.get("message") or "").split())[-_LAST_WORDS:]
            why = f"It said: {words}" if words else waiting["message"]
            yield Obstacle(str(waiting["reason"]), f"{entry['name']} of {pod.name}: {waiting['reason']}. {why}")


def _containers(pod: Doc[Any]) -> Iterable[Json]:
    return [*(pod.status.get("initContainerStatuses") or []), *(pod.status.get("containerStatuses") or [])]
