"""What to do about one claim. Pure.

The user's claim is never changed, but for two conditions in its status and events about it. Our finalizers are on our
own objects. Unwrapping is deleting them; a running pod keeps its mount, because the Dataset stays until no pod uses
it (`data.runtime`).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from headrace.data.act import Action, Create, Delete, Patch, Plan, Severity, Tell
from headrace.data.conditions import (
    CLAIM_DATASET_READY,
    CLAIM_MOUNT_VERIFIED,
    MOUNT_VERIFIED,
    READY,
    is_younger,
    nearest_first,
)
from headrace.data.wrapper import objects
from headrace.spec.conditions import Status, find_condition, set_condition, without_condition
from headrace.spec.kind import Doc
from headrace.spec.kinds import DATASET, PERSISTENT_VOLUME_CLAIM, THIN_RUNTIME
from headrace.spec.names import RUNTIME_PROFILE_LABEL

WRAPPING = "Wrapping"
SAID_AFTER_S = 2.0


@dataclass(frozen=True, kw_only=True)
class Observed:
    """One claim and what stands behind it.

    Args:
        dataset, runtime: of the name that the claim's Dataset has, whoever made them.
        profiles: the names of all ThinRuntimeProfiles.
        owner: the Dataset that made this claim for itself; empty for a user's claim.
    """

    claim: Doc[Any] | None
    dataset: Doc[Any] | None = None
    runtime: Doc[Any] | None = None
    profiles: tuple[str, ...] = ()
    owner: str = ""


@dataclass(frozen=True)
class _Verdict:
    status: Status
    reason: str
    message: str


def plan(observed: Observed, now: dt.datetime) -> Plan:
    """Return what brings Dataset and ThinRuntime in line with the claim's label, and tells the claim's owner."""
    claim = observed.claim
    if claim is None:
        return Plan(tuple(_unwrap(observed)))
    if claim.is_deleting:
        return Plan()
    profile = objects.wanted_profile(claim)
    if profile is None:
        return Plan((*_unwrap(observed), *_forget(claim)))
    refusal = _refusal(observed, claim, profile)
    if refusal is not None:
        return Plan((*_unwrap(observed), *_report(claim, refusal, now)))
    verdict, actions = _wrap(observed, claim, profile)
    if verdict.reason == WRAPPING and _is_just_begun(observed, claim, now):
        return Plan(tuple(actions), SAID_AFTER_S)
    return Plan((*actions, *_report(claim, verdict, now, _mounting(observed.dataset, claim))))


def _is_just_begun(observed: Observed, claim: Doc[Any], now: dt.datetime) -> bool:
    """Tell whether wrapping began a moment ago: it takes less time than saying so would."""
    dataset = observed.dataset
    is_new = dataset is None or is_younger(dataset, SAID_AFTER_S, now)
    return is_new and find_condition(claim, CLAIM_DATASET_READY) is None


def _refusal(observed: Observed, claim: Doc[Any], profile: str) -> _Verdict | None:
    """Return why this claim cannot be wrapped at all."""
    if observed.owner:
        return _Verdict(
            "False",
            "AlreadyDataset",
            f"The claim belongs to Dataset {observed.owner} and is shared already. Remove the label.",
        )
    if claim.spec.get("volumeMode") == "Block":
        return _Verdict(
            "False",
            "BlockVolume",
            "The claim is a block device, and only file systems can be shared. Remove the label.",
        )
    if not profile:
        known = nearest_first("", observed.profiles) or "none"
        return _Verdict(
            "False",
            "ProfileNotNamed",
            f"The label {RUNTIME_PROFILE_LABEL} names no ThinRuntimeProfile. Set it to one of: {known}.",
        )
    for doc in (observed.dataset, observed.runtime):
        if doc is not None and not objects.is_ours(doc):
            return _Verdict(
                "False",
                "NameTaken",
                f"A {doc.kind.name} {doc.name} exists that is not this claim's. Delete or rename it.",
            )
    return None


def _wrap(observed: Observed, claim: Doc[Any], profile: str) -> tuple[_Verdict, list[Action]]:
    stale = [
        doc
        for doc in (observed.dataset, observed.runtime)
        if doc is not None and (doc.is_deleting or not objects.belongs_to(doc, claim))
    ]
    if stale:
        waiting = _Verdict(
            "Unknown",
            "Replacing",
            f"The {stale[0].kind.name} {stale[0].name} of an earlier wrapping is going away; pods may still use it.",
        )
        return waiting, [Delete(doc.kind, doc.ref, doc.uid) for doc in stale if not doc.is_deleting]
    actions: list[Action] = []
    # The ThinRuntime first: a Dataset without one would say in an event what is over a moment later.
    if observed.runtime is None:
        actions.append(Create(THIN_RUNTIME, objects.runtime_body(claim, profile)))
    elif observed.runtime.spec.get("profileName") != profile:
        actions.append(Patch(THIN_RUNTIME, observed.runtime.ref, {"spec": {"profileName": profile}}))
        actions.append(Tell(claim, "Normal", "Rewrapped", f"The claim is now shared through profile {profile}."))
    if observed.dataset is None:
        actions.append(Create(DATASET, objects.dataset_body(claim)))
    elif difference := _difference(observed.dataset, objects.dataset_spec(claim)):
        actions.append(Patch(DATASET, observed.dataset.ref, {"spec": difference}))
    return _readiness(observed.dataset, settled=not actions), actions


def _readiness(dataset: Doc[Any] | None, *, settled: bool) -> _Verdict:
    """Return what the Dataset says of itself, if it has looked since the last change."""
    condition = find_condition(dataset, READY)
    if dataset is None or condition is None or not settled:
        return _Verdict("Unknown", WRAPPING, "Dataset and ThinRuntime are being set up.")
    return _Verdict(condition["status"], condition.get("reason", ""), condition.get("message", ""))


def _mounting(dataset: Doc[Any] | None, claim: Doc[Any]) -> _Verdict | None:
    """Return what mounting it has shown, once it has: while it is tried for the first time, there is nothing to say."""
    condition = find_condition(dataset, MOUNT_VERIFIED)
    if condition is None or (condition["status"] == "Unknown" and not find_condition(claim, CLAIM_MOUNT_VERIFIED)):
        return None
    return _Verdict(condition["status"], condition.get("reason", ""), condition.get("message", ""))


def _difference(doc: Doc[Any], wanted: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in wanted.items() if doc.spec.get(key) != value}


def _unwrap(observed: Observed) -> Iterable[Action]:
    """Delete what we made; a Dataset of the same name that is somebody else's stays."""
    found = [doc for doc in (observed.dataset, observed.runtime) if doc is not None and objects.is_ours(doc)]
    for doc in found:
        if not doc.is_deleting:
            yield Delete(doc.kind, doc.ref, doc.uid)


def _report(claim: Doc[Any], verdict: _Verdict, now: dt.datetime, mounting: _Verdict | None = None) -> Iterable[Action]:
    """Set the conditions and say them as events, but only where they say something new."""
    before = claim.status.get("conditions") or []
    after = set_condition(before, CLAIM_DATASET_READY, verdict.status, verdict.reason, verdict.message, now)
    told = [verdict] if after != before and verdict.reason != WRAPPING else []
    if mounting is None:
        after = without_condition(after, CLAIM_MOUNT_VERIFIED)
    else:
        known = after
        after = set_condition(after, CLAIM_MOUNT_VERIFIED, mounting.status, mounting.reason, mounting.message, now)
        told += [mounting] if after != known and mounting.status != "Unknown" else []
    if after == before:
        return
    yield _conditions_patch(claim, after)
    for each in told:
        severity: Severity = "Warning" if each.status == "False" else "Normal"
        yield Tell(claim, severity, each.reason, each.message)


def _forget(claim: Doc[Any]) -> Iterable[Action]:
    if find_condition(claim, CLAIM_DATASET_READY) is None:
        return
    left = without_condition(claim.status.get("conditions"), CLAIM_DATASET_READY, CLAIM_MOUNT_VERIFIED)
    yield _conditions_patch(claim, left)
    yield Tell(claim, "Normal", "Unwrapped", "The claim is no longer shared; pods that run keep their mounts.")


def _conditions_patch(claim: Doc[Any], conditions: list[dict[str, Any]]) -> Patch:
    body = {"metadata": {"resourceVersion": claim.version}, "status": {"conditions": conditions}}
    return Patch(PERSISTENT_VOLUME_CLAIM, claim.ref, body, "status")
