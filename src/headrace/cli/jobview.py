"""How a TrainJob reads in one line: phase, place, time it ran, and the sentence that matters now. Pure."""

from __future__ import annotations

import datetime as dt
from typing import Any

from headrace.clock import parse_time
from headrace.sdk import jobs
from headrace.spec.kind import Doc


def pool(job: Doc[Any]) -> str:
    """Return where the job runs or last ran; empty before its first placement."""
    placed = (job.status.get("placement") or {}).get("pool")
    attempts = job.status.get("attempts") or [{}]
    return str(placed or attempts[-1].get("pool") or "")


def ran_s(job: Doc[Any], now: dt.datetime) -> float | None:
    """Return how long all its workers ran, over all attempts; None when they never did."""
    attempts = [a for a in job.status.get("attempts") or [] if a.get("startedAt")]
    if not attempts:
        return None
    spans = [(parse_time(a["startedAt"]), parse_time(a["endedAt"]) if a.get("endedAt") else now) for a in attempts]
    return sum((end - start).total_seconds() for start, end in spans)


def message(job: Doc[Any]) -> str:
    """Return why the job is as it is: what it waits for, or how it ended; empty while it simply runs."""
    phase = jobs.phase(job)
    if phase in {"Running", "Succeeded"}:
        return ""
    if phase == "Failed":
        return str(job.status.get("message") or "")
    waiting = [c for c in job.status.get("conditions") or [] if c.get("status") == "False" and c.get("message")]
    return str(job.status.get("message") or (waiting[-1]["message"] if waiting else ""))


def headline(job: Doc[Any]) -> str:
    """Return `queued – number 2 in queue default`, `running on cloud (attempt 2)`."""
    attempt = int((job.status.get("placement") or {}).get("attempt") or 1)
    is_placed = bool(job.status.get("placement"))
    where = f" on {pool(job)}" if is_placed else ""
    again = f" (attempt {attempt})" if attempt > 1 else ""
    why = message(job)
    phase = jobs.phase(job).lower()
    if is_placed and phase == "queued":
        phase = "placed"
    return f"{phase}{where}{again}" + (f" – {why}" if why else "")
