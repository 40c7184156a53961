"""Why a job waits, and what its choices are: the policy's own answer, asked again at the moment of reading. Pure."""

from __future__ import annotations

from typing import Any

from headrace.jobs.workloads import is_placed, is_waiting
from headrace.scheduling.decide import decide
from headrace.scheduling.model import Choice, Decision, Gang, Place, Snapshot, Wait
from headrace.spec.kind import Doc, Json
from headrace.units import human_duration


def explain(job: Doc[Any], snapshot: Snapshot) -> Json:
    """Return phase, place in the queue, blockers, choices, helps, and the source of each figure."""
    if not is_waiting(job):
        return _settled(job)
    decision = _decision(str(job.ref), snapshot)
    body = choices(decision)
    position = _position(decision, snapshot)
    body |= {
        "phase": "Queued",
        "position": position,
        "summary": f"number {position} in queue {decision.gang.queue}; {decision.because}",
        "blockers": _blockers(decision),
        "helps": list(decision.helps) if isinstance(decision, Wait) else [],
        "figures": _figures(decision.gang, snapshot),
    }
    return body


def quote(key: str, snapshot: Snapshot) -> Json:
    """Return what the job under `key` would meet if it were submitted now."""
    decision = _decision(key, snapshot)
    return {
        **choices(decision),
        "position": _position(decision, snapshot),
        "figures": _figures(decision.gang, snapshot),
    }


def choices(decision: Decision) -> Json:
    """Return the choices with the one taken marked, and the sentence that says why."""
    chosen = decision.pool if isinstance(decision, Place) else ""
    waiting_for = "" if isinstance(decision, Place) else next((c.pool for c in decision.choices if c.fits), "")
    return {
        "action": "place" if isinstance(decision, Place) else "wait",
        "pool": chosen or None,
        "code": "Placed" if isinstance(decision, Place) else decision.code,
        "because": decision.because,
        "choices": [_choice(choice, choice.pool in {chosen, waiting_for}) for choice in decision.choices],
    }


def _choice(choice: Choice, is_chosen: bool) -> Json:
    return {
        "pool": choice.pool,
        "fits": choice.fits,
        "startsInSeconds": choice.starts_in_s,
        "cost": None if choice.cost is None else {"amount": format(choice.cost, "f"), "currency": choice.currency},
        "bytesToMove": choice.bytes_to_move,
        "reason": choice.reason,
        "chosen": is_chosen,
    }


def _decision(key: str, snapshot: Snapshot) -> Decision:
    return next(decision for decision in decide(snapshot) if decision.gang.key == key)


def _position(decision: Decision, snapshot: Snapshot) -> int:
    if isinstance(decision, Wait):
        return decision.position
    ahead = [d for d in decide(snapshot) if d.gang.queue == decision.gang.queue]
    return [d.gang.key for d in ahead].index(decision.gang.key) + 1


def _blockers(decision: Decision) -> list[Json]:
    if isinstance(decision, Place):
        return []
    return [
        {
            "pool": choice.pool,
            "code": choice.code,
            "message": ": ".join(word for word in (choice.pool, choice.code, choice.reason) if word),
            "holders": list(choice.holders),
        }
        for choice in decision.choices
        if choice.reason
    ]


def _figures(gang: Gang, snapshot: Snapshot) -> list[Json]:
    figures = [
        {
            "name": "expected duration",
            "value": human_duration(gang.expected_duration_s),
            "source": gang.duration_source,
        }
    ]
    if gang.terms.allowed:
        per_hour = gang.terms.wait_price_per_s * 3600
        figures.append(
            {
                "name": "an hour of waiting is worth",
                "value": f"{per_hour:.2f}",
                "source": f"queue {gang.queue}, burst.waitPrice",
            }
        )
    waited_s = snapshot.now_s - gang.enqueued_s
    figures.append({"name": "waited", "value": human_duration(waited_s), "source": "status.queuedAt"})
    return figures


def _settled(job: Doc[Any]) -> Json:
    status = job.status
    placement = status.get("placement") or {}
    phase = status.get("phase") or "Queued"
    if is_placed(job):
        summary = f"on {placement.get('pool')}. {placement.get('message') or 'It was placed there.'}"
        if status.get("message"):
            summary = f"placed on {placement.get('pool')}, but not started: {status['message']}"
    else:
        summary = status.get("message") or status.get("reason") or "it does not wait"
    return {
        "phase": phase,
        "summary": summary,
        "action": "none",
        "pool": placement.get("pool"),
        "choices": [],
        "blockers": [],
        "helps": [],
        "figures": [],
    }
