"""Which probe pods to make and to judge for one Dataset, and what its status then says. Pure.

One probe a pool that the Dataset may go to and that is ready. What was verified stays so until something the mount
depends on changes: profile, runtime, configuration, Secrets, the pool's mode. A failure is tried again with growing
pauses.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from headrace.data.act import Action, Plan, Tell
from headrace.data.client import ResolvedDataset
from headrace.data.conditions import MOUNT_VERIFIED, status_patch
from headrace.data.modes.mode import Capabilities
from headrace.data.verify.outcome import Evidence, Outcome
from headrace.data.verify.pod import ProbeSettings
from headrace.data.verify.size import format_size
from headrace.data.verify.turn import QUEUED, VERIFYING, Look, Turn, remove
from headrace.spec.conditions import Status, find_condition, set_condition
from headrace.spec.kind import Doc, Json
from headrace.spec.names import POOL_LABEL

_NO_POOL = "NoPool"
"""A condition says it; it is true of every Dataset of a cluster without pools, and nothing has happened."""


@dataclass(frozen=True, kw_only=True)
class Observed:
    """One Dataset and its probes.

    Args:
        resolved, config: what pods get; None while the Dataset is not Bound.
        secret_versions: of the Secrets that clients read.
        pools: those the Dataset may go to and that are ready.
        resting: names of those that are not ready now; what is known of them stays.
        pods: probe pods of the Dataset.
        others: by pool, how many probes of other Datasets run there.
        evidence: by pod name, where it was asked for.
    """

    dataset: Doc[Any] | None
    resolved: ResolvedDataset | None = None
    config: str = ""
    secret_versions: tuple[str, ...] = ()
    pools: tuple[Doc[Any], ...] = ()
    resting: frozenset[str] = frozenset()
    pods: tuple[Doc[Any], ...] = ()
    others: Mapping[str, int] = field(default_factory=dict)
    evidence: Mapping[str, Evidence] = field(default_factory=dict)


def plan(
    observed: Observed, now: dt.datetime, settings: ProbeSettings, capabilities_of: Callable[[Doc[Any]], Capabilities]
) -> Plan:
    """Return the status, then probes to make and remove: an outcome is written down before its pod goes.

    Args:
        capabilities_of: what a pool's nodes can do.
    """
    dataset = observed.dataset
    if dataset is None or dataset.is_deleting or observed.resolved is None:
        return Plan(tuple(remove(observed.pods)))
    turns = {
        pool.name: _look(observed, dataset, observed.resolved, pool).turn(now, settings, capabilities_of(pool))
        for pool in observed.pools
    }
    probed = set(turns)
    for entry in dataset.status.get("pools") or []:
        if entry.get("pool") in observed.resting:
            turns[entry["pool"]] = Turn(entry=entry)
    actions: list[Action] = list(_status(dataset, turns, now))
    actions += remove(pod for pod in observed.pods if pod.labels.get(POOL_LABEL) not in probed)
    for turn in turns.values():
        actions += turn.actions
    pauses = [turn.again_after_s for turn in turns.values() if turn.again_after_s is not None]
    return Plan(tuple(actions), min(pauses, default=None))


def _look(observed: Observed, dataset: Doc[Any], resolved: ResolvedDataset, pool: Doc[Any]) -> Look:
    entries: Iterable[Json] = dataset.status.get("pools") or []
    return Look(
        dataset=dataset,
        resolved=resolved,
        config=observed.config,
        secret_versions=observed.secret_versions,
        pool=pool,
        before=next((entry for entry in entries if entry.get("pool") == pool.name), {}),
        pods=tuple(pod for pod in observed.pods if pod.labels.get(POOL_LABEL) == pool.name),
        others=observed.others.get(pool.name, 0),
        evidence=observed.evidence,
    )


def _status(dataset: Doc[Any], turns: Mapping[str, Turn], now: dt.datetime) -> Iterator[Action]:
    entries = [turn.entry for _, turn in sorted(turns.items())]
    status, reason, message = _summary(entries)
    conditions = set_condition(
        dataset.status.get("conditions"), MOUNT_VERIFIED, status, reason, message, now, dataset.generation
    )
    wanted = {"pools": entries, "conditions": conditions, **_sizes(turn.outcome for turn in turns.values())}
    patch = status_patch(dataset, wanted)
    if patch is None:
        return
    yield patch
    known = {entry["pool"]: _said(entry) for entry in dataset.status.get("pools") or []}
    for entry in entries:  # each for itself: an Event is short, and two clients' last words would cut each other off
        if entry["verified"] == "False" and known.get(entry["pool"]) != _said(entry):
            yield Tell(dataset, "Warning", entry["reason"], f"{entry['pool']}: {entry['message']}")
    before = find_condition(dataset, MOUNT_VERIFIED) or {}
    is_new = (before.get("status"), *_said(before)) != (status, reason, message)
    if is_new and status != "False" and reason not in {VERIFYING.reason, QUEUED.reason, _NO_POOL}:
        yield Tell(dataset, "Normal", MOUNT_VERIFIED if status == "True" else reason, message)


def _said(entry: Json) -> tuple[str, str]:
    return entry.get("reason", ""), entry.get("message", "")


def _sizes(outcomes: Iterable[Outcome | None]) -> Json:
    sizes: Json = {}
    for result in outcomes:
        if result is not None and result.used_bytes is not None:
            sizes["ufsTotal"] = format_size(result.used_bytes)
        if result is not None and result.files is not None:
            sizes["fileNum"] = str(result.files)
    return sizes


def _summary(entries: list[Json]) -> tuple[Status, str, str]:
    """Return status, reason and message of MountVerified over all pools: the worst pool decides, all are named."""
    if not entries:
        return "Unknown", _NO_POOL, "There is no ready pool it may go to, so nobody has tried to mount it."
    verified = [entry["pool"] for entry in entries if entry["verified"] == "True"]
    failed = [entry for entry in entries if entry["verified"] == "False"]
    unsure = [entry for entry in entries if entry["verified"] == "Unknown"]
    parts = [f"{entry['pool']}: {entry['message']}" for entry in failed]
    parts += [f"{entry['pool']}: {entry['message'] or 'a probe pod is trying to list it.'}" for entry in unsure]
    if verified:
        parts.append(f"Listed in {', '.join(verified)}.")
    worst: Status = "False" if failed else "Unknown" if unsure else "True"
    return worst, (failed + unsure + entries)[0]["reason"], " ".join(parts)
