"""What a job's queue grants, and how long a job is expected to run. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from typing import Any

from headrace.clock import parse_time
from headrace.scheduling.model import BurstTerms
from headrace.spec.kind import Doc
from headrace.spec.validation.unsupported import holding
from headrace.units import parse_duration_s, parse_rate_per_s

RANKS = {"guaranteed": 2, "preferred": 1, "best-effort": 0}
DEFAULT_DURATION = "1h"
DEFAULT_WAIT_PRICE = "1.00/h"
_EARLIER_RUNS = 9
_NAMELESS = "job"


def burst_terms(queue: Doc[Any] | None) -> BurstTerms:
    """Return what the queue allows. A job without a queue object may not spend money: only own pools take it."""
    if queue is None:
        return BurstTerms()
    burst = queue.spec.get("burst") or {}
    return BurstTerms(
        allowed=bool(burst.get("allow", True)),
        wait_price_per_s=parse_rate_per_s(burst.get("waitPrice") or DEFAULT_WAIT_PRICE),
        max_wait_s=parse_duration_s(burst["maxWait"]) if burst.get("maxWait") else None,
        max_price_per_s=parse_rate_per_s(burst["maxPrice"]) if burst.get("maxPrice") else None,
    )


def queue_refusal(job: Doc[Any], queue: Doc[Any] | None) -> str:
    """Return why the job may not use its queue at all, or nothing."""
    if queue is None:
        return ""
    namespaces = queue.spec.get("namespaces") or []
    if namespaces and job.namespace not in namespaces:
        return f"queue {queue.name} is not for namespace {job.namespace} (spec.namespaces: {', '.join(namespaces)})"
    return ""


def missing_feature(job: Doc[Any]) -> str:
    """Return what the job asks for that this version does not do and that it cannot run without, or nothing."""
    return "; ".join(f"{problem.path} {problem.message}" for problem in holding(job.kind, job.raw))


def expected_duration(job: Doc[Any], queue: Doc[Any] | None, others: Iterable[Doc[Any]]) -> tuple[float, str]:
    """Return `(seconds, where the figure comes from)`: the job's own word, else earlier runs of its name, else the queue's."""
    said = job.spec.get("expectedDuration")
    if said:
        return parse_duration_s(said), "spec.expectedDuration"
    runs = sorted(
        (end, (end - start).total_seconds())
        for other in others
        if other.namespace == job.namespace and _family(other.name) == _family(job.name) and other.uid != job.uid
        for start, end in _good_runs(other)
    )
    if runs:
        recent = [seconds for _, seconds in runs[-_EARLIER_RUNS:]]
        return statistics.median(recent), f"median of {len(recent)} earlier runs of {_family(job.name)}"
    if queue is not None:
        return parse_duration_s(queue.spec.get("expectedDuration") or DEFAULT_DURATION), f"queue {queue.name}"
    return parse_duration_s(DEFAULT_DURATION), "default"


def _family(name: str) -> str:
    """Return the name without a generated tail: `digits-x7k2p` and `digits-2` are runs of `digits`.

    Jobs that were given no name at all (`job-x7k2p`) are no runs of one another.
    """
    base, dash, tail = name.rpartition("-")
    if base == _NAMELESS:
        return name
    return base if dash and (tail.isdigit() or (len(tail) == 5 and tail.isalnum())) else name


def _good_runs(job: Doc[Any]) -> list[tuple[Any, Any]]:
    return [
        (parse_time(attempt["startedAt"]), parse_time(attempt["endedAt"]))
        for attempt in job.status.get("attempts") or []
        if attempt.get("outcome") == "Succeeded" and attempt.get("startedAt") and attempt.get("endedAt")
    ]
