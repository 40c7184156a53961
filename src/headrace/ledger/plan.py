"""Which metering events a pod proves, and whether it may go. Pure.

A run begins when the pod was scheduled, when the node took it (`status.startTime`: the provider's image pull), or with
its first container, as the pool's price card says, and ends when the last of its containers ended, sidecars included.
"""

from __future__ import annotations

import datetime as dt
from typing import Any

import msgspec

from headrace.clock import parse_time
from headrace.ledger.model import WHOLE_POD, Event, Subject
from headrace.pools.price import PriceCard
from headrace.spec import amounts
from headrace.spec.kind import Doc, Json
from headrace.spec.names import (
    ATTEMPT_LABEL,
    JOB_LABEL,
    METERED_FINALIZER,
    POOL_LABEL,
    PROBE_LABEL,
    SUBMITTED_BY_ANNOTATION,
)
from headrace.spec.resources import pod_requests


class Plan(msgspec.Struct, frozen=True):
    """Events to commit, and whether the finalizer may go after that."""

    events: tuple[Event, ...] = ()
    is_released: bool = False


def plan(pod: Doc[Any], prices: PriceCard) -> Plan:
    """Return what a pod proves. Pure; repeating it for the same pod gives the same events."""
    if METERED_FINALIZER not in pod.finalizers:
        return Plan()
    start, end = started_at(pod.raw, prices), ended_at(pod.raw)
    if start is None:
        never_ran = pod.status.get("phase") in {"Succeeded", "Failed"} or (
            pod.is_deleting and not pod.spec.get("nodeName")
        )
        return Plan(is_released=never_ran)
    events = [_event(pod, prices, "start", start)]
    if end is not None:
        events.append(_event(pod, prices, "end", max(start, end)))
    return Plan(tuple(events), end is not None)


def started_at(pod: Json, prices: PriceCard) -> dt.datetime | None:
    """Return when the clock of the bill began, or None while it has not."""
    status = pod.get("status") or {}
    begins = [parse_time(run["startedAt"]) for run in _runs(status) if run.get("startedAt")]
    if prices.starts_at == "Start" or not status.get("startTime"):
        return min(begins, default=None)
    if prices.starts_at == "Scheduled":
        scheduled = [c for c in status.get("conditions") or [] if c.get("type") == "PodScheduled"]
        if scheduled and scheduled[0].get("status") == "True" and scheduled[0].get("lastTransitionTime"):
            return parse_time(scheduled[0]["lastTransitionTime"])
    return parse_time(status["startTime"])


def ended_at(pod: Json) -> dt.datetime | None:
    """Return when the last container ended, or None while the pod has not."""
    status = pod.get("status") or {}
    if status.get("phase") not in {"Succeeded", "Failed"}:
        return None
    ends = [parse_time(run["finishedAt"]) for run in _runs(status) if run.get("finishedAt")]
    if ends:
        return max(ends)
    changed = [c.get("lastTransitionTime") for c in status.get("conditions") or [] if c.get("lastTransitionTime")]
    known = [*map(parse_time, changed), *([parse_time(status["startTime"])] if status.get("startTime") else [])]
    return max(known, default=None)


def _runs(status: Json) -> list[Json]:
    entries = [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]
    states = [state for entry in entries for state in (entry.get("state") or {}, entry.get("lastState") or {})]
    return [run for state in states for run in (state.get("running"), state.get("terminated")) if run]


def _event(pod: Doc[Any], prices: PriceCard, edge: Any, at: dt.datetime) -> Event:
    labels = pod.labels
    subject = Subject(
        namespace=pod.namespace,
        job=labels.get(JOB_LABEL) or (f"probe:{labels[PROBE_LABEL]}" if PROBE_LABEL in labels else ""),
        attempt=int(labels.get(ATTEMPT_LABEL, "0")),
        pod=pod.name,
        pool=labels.get(POOL_LABEL, ""),
        node=str(pod.spec.get("nodeName") or ""),
        user=pod.annotations.get(SUBMITTED_BY_ANNOTATION, ""),
    )
    shape = amounts.parse(pod_requests(pod.raw))
    return Event(
        pod_uid=pod.uid, container=WHOLE_POD, restart=0, edge=edge, at=at, subject=subject, shape=shape, card=prices
    )
