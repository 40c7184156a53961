"""How the client on a node is, in a NodeMount's words: serving, on its way, or failing and why. Pure."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any

from headrace.clock import parse_time
from headrace.data.words import cannot_start, ended, last_words, statuses, tail, unmounted, unschedulable
from headrace.spec.conditions import Status
from headrace.spec.kind import Doc

SERVING = "Serving"
STARTING = "Starting"
SLOW_AFTER_S = 20.0
"""From then on a client that serves nothing is asked for its log."""


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What had to be asked for besides the pod: the client's log, and the latest warning about its DaemonSet."""

    log: str = ""
    warning: str = ""


NOTHING = Evidence()


@dataclass(frozen=True, kw_only=True)
class ClientState:
    """What the condition Ready of a NodeMount says. False is for what waiting alone does not mend."""

    status: Status
    reason: str
    message: str


def client_state(pod: Doc[Any] | None, evidence: Evidence, now: dt.datetime) -> ClientState:
    """Return how the client is.

    Args:
        pod: the client's on the node; None while there is none.
    """
    if pod is None:
        if evidence.warning:
            return _failing("ClientNotMade", f"Its client's pod cannot be made: {tail(evidence.warning)}")
        return _starting("Its client's pod is being made.")
    for status in statuses(pod):
        why_not = cannot_start(status)
        if why_not:
            return _failing(status["state"]["waiting"]["reason"], why_not)
    containers = list(statuses(pod))
    if containers and all(status.get("ready") for status in containers):
        return ClientState(status="True", reason=SERVING, message=f"Pod {pod.ref} serves it.")
    if pod.status.get("phase") == "Failed" or any(map(_has_failed, containers)):
        return _failing("ClientCrashes", _with_words("Its client ended before it served anything.", pod, evidence))
    unplaced = unschedulable(pod)
    if unplaced:
        return _failing("Unschedulable", f"Its client's pod {pod.ref} fits not on the node: {unplaced}")
    if not is_slow(pod, now):
        return _starting(f"Its client starts in pod {pod.ref}.")
    why_not = unmounted(pod)
    if why_not:
        return _starting(f"Its client's pod {pod.ref} waits for its own volumes: {why_not}")
    return _starting(_with_words(f"Its client in pod {pod.ref} serves nothing yet.", pod, evidence))


def is_slow(pod: Doc[Any], now: dt.datetime) -> bool:
    """Tell whether a client's pod has had the time in which most serve."""
    return (now - parse_time(pod.meta["creationTimestamp"])).total_seconds() > SLOW_AFTER_S


def _has_failed(status: dict[str, Any]) -> bool:
    """A client that ended with an error, or for the second time, whichever it does now."""
    last = (status.get("lastState") or {}).get("terminated") or {}
    now = (status.get("state") or {}).get("terminated") or {}
    return not status.get("started") and any(state.get("exitCode") for state in (last, now))


def _with_words(what: str, pod: Doc[Any], evidence: Evidence) -> str:
    words = last_words(pod) or tail(evidence.log)
    return f"{what} It said: {ended(words)}" if words else what


def _starting(message: str) -> ClientState:
    return ClientState(status="Unknown", reason=STARTING, message=ended(message))


def _failing(reason: str, message: str) -> ClientState:
    return ClientState(status="False", reason=reason, message=ended(message))
