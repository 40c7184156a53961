"""What to do about one Dataset and the ThinRuntime of its name. Pure.

Edits roll out: `config.json` is rendered again and running pods see it, as in Fluid; what the client was started with
changes with the next pod. What cannot follow is said in the condition `Unsupported`, by field.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from headrace.data.act import Action, Create, Delete, Patch, Plan, Severity, Tell
from headrace.data.conditions import BOUND, READY, UNSUPPORTED, is_younger, status_patch
from headrace.data.runtime.assemble import config_map_name, is_wrapped
from headrace.data.runtime.config import ClientConfig, access_modes
from headrace.data.runtime.judge import Parts, Verdict, judge
from headrace.data.runtime.volume import claim_body, is_owned_by, names_dataset, volume_body
from headrace.spec.conditions import find_condition, set_condition, without_condition
from headrace.spec.kind import Doc, Json
from headrace.spec.kinds import CONFIG_MAP, PERSISTENT_VOLUME, PERSISTENT_VOLUME_CLAIM
from headrace.spec.names import (
    DATASET_FINALIZER,
    FUSE_CONFIG_KEY,
    RUNTIME_TYPE_THIN,
    THIN_RUNTIME_FINALIZER,
    WRAPPER_LABEL,
)
from headrace.spec.validation.unsupported import unsupported

_NAMES_SHOWN = 5
TOGETHER_WITHIN_S = 2.0


@dataclass(frozen=True, kw_only=True)
class Observed:
    """One Dataset and its ThinRuntime, and everything that hangs on them.

    Args:
        parts: what the Dataset is configured from; None when there is no Dataset.
        config_map: of the name of this Dataset's configuration.
        volume, claim: of the names that a plain Dataset's own have, whoever made them.
        users: names of unfinished pods that use the Dataset.
    """

    parts: Parts | None = None
    runtime: Doc[Any] | None = None
    config_map: Doc[Any] | None = None
    volume: Doc[Any] | None = None
    claim: Doc[Any] | None = None
    users: tuple[str, ...] = ()


def plan(observed: Observed, now: dt.datetime) -> Plan:
    """Return what brings everything in line with the specs, and the statuses with what is there."""
    actions: list[Action] = []
    parts = observed.parts
    if _waits_for_other(observed, now):
        return Plan(tuple(_hold(parts.dataset, DATASET_FINALIZER)) if parts is not None else (), TOGETHER_WITHIN_S)
    if parts is None:
        actions += _orphaned_runtime(observed, now)
    elif parts.dataset.is_deleting:
        actions += _end_dataset(observed, parts.dataset, now)
    else:
        actions += _keep(observed, parts, now)
    if observed.runtime is not None and observed.runtime.is_deleting and not observed.users:
        actions += _drop_finalizer(observed.runtime, THIN_RUNTIME_FINALIZER)
    return Plan(tuple(actions))


def _waits_for_other(observed: Observed, now: dt.datetime) -> bool:
    """Tell whether one of the two was just made and the other not yet: they come one after the other, from one file.

    What would be said of it, in a status and a warning, would be over a moment later.
    """
    dataset, runtime = observed.parts and observed.parts.dataset, observed.runtime
    alone = dataset or runtime if dataset is None or runtime is None else None
    return (
        alone is not None
        and not alone.is_deleting
        and find_condition(alone, READY) is None
        and is_younger(alone, TOGETHER_WITHIN_S, now)
    )


def _keep(observed: Observed, parts: Parts, now: dt.datetime) -> Iterator[Action]:
    dataset, runtime = parts.dataset, observed.runtime
    yield from _hold(dataset, DATASET_FINALIZER)
    if runtime is not None and not runtime.is_deleting:
        yield from _take(runtime, dataset)
    verdict = judge(parts)
    if not is_wrapped(dataset.raw):
        taken = _taken(observed, dataset)
        if verdict.phase == BOUND and taken is not None:
            verdict = taken
        elif verdict.phase == BOUND:
            yield from _own_volume(observed, dataset)
    if verdict.config is not None and runtime is not None:
        yield from _configure(observed, dataset, runtime, verdict.config)
    yield from _dataset_status(observed, dataset, verdict, now)
    if runtime is not None and not runtime.is_deleting:
        yield from _runtime_status(runtime, dataset, verdict, now)


def _configure(observed: Observed, dataset: Doc[Any], runtime: Doc[Any], config: ClientConfig) -> Iterator[Action]:
    data = {FUSE_CONFIG_KEY: config.text}
    if observed.config_map is None:
        meta = {
            "name": config_map_name(dataset.name),
            "namespace": dataset.namespace,
            "ownerReferences": [runtime.owner_reference(block_deletion=False)],
        }
        body = {"apiVersion": CONFIG_MAP.api_version, "kind": CONFIG_MAP.name, "metadata": meta, "data": data}
        yield Create(CONFIG_MAP, body)
    elif observed.config_map.raw.get("data") != data:
        yield Patch(CONFIG_MAP, observed.config_map.ref, {"data": data})


def _own_volume(observed: Observed, dataset: Doc[Any]) -> Iterator[Action]:
    if observed.volume is None:
        yield Create(PERSISTENT_VOLUME, volume_body(dataset))
    if observed.claim is None:
        yield Create(PERSISTENT_VOLUME_CLAIM, claim_body(dataset))


def _taken(observed: Observed, dataset: Doc[Any]) -> Verdict | None:
    """Return why a plain Dataset cannot have its own volume and claim: somebody else's are in the way."""
    if observed.claim is not None and not is_owned_by(observed.claim, dataset):
        what = f"A claim {dataset.ref} exists that is not this Dataset's own."
        cure = "Rename the Dataset and its ThinRuntime, or label the claim in place of making a Dataset."
    elif observed.volume is not None and not names_dataset(observed.volume, dataset.ref):
        what = f"A PersistentVolume {observed.volume.name} exists that is not this Dataset's own."
        cure = "Rename the Dataset and its ThinRuntime."
    else:
        return None
    return Verdict(phase="Failed", status="False", reason="NameTaken", message=f"{what} {cure}")


def _dataset_status(observed: Observed, dataset: Doc[Any], verdict: Verdict, now: dt.datetime) -> Iterator[Action]:
    missing = [str(problem) for problem in unsupported(dataset.kind, dataset.raw)]
    missing += _fixed(observed, dataset)
    conditions = _conditions(dataset, verdict, missing, now)
    wanted: Json = {
        "phase": verdict.phase,
        "conditions": conditions,
        "observedGeneration": dataset.generation,
        "mounts": dataset.spec.get("mounts") or [],
    }
    if verdict.phase == BOUND:
        runtime = {"name": dataset.name, "namespace": dataset.namespace, "category": "Accelerate"}
        wanted["runtimes"] = [{**runtime, "type": RUNTIME_TYPE_THIN}]
    yield from _written(dataset, wanted)


def _runtime_status(runtime: Doc[Any], dataset: Doc[Any], verdict: Verdict, now: dt.datetime) -> Iterator[Action]:
    missing = [str(problem) for problem in unsupported(runtime.kind, runtime.raw)]
    wanted = {
        "fusePhase": "Ready" if verdict.phase == BOUND else "NotReady",
        "conditions": _conditions(runtime, verdict, missing, now),
        "observedGeneration": runtime.generation,
        "mounts": dataset.spec.get("mounts") or [],
    }
    patch = status_patch(runtime, wanted)
    if patch is not None:
        yield patch


def _conditions(doc: Doc[Any], verdict: Verdict, missing: list[str], now: dt.datetime) -> list[Json]:
    conditions = set_condition(
        doc.status.get("conditions"), READY, verdict.status, verdict.reason, verdict.message, now, doc.generation
    )
    if not missing:
        return without_condition(conditions, UNSUPPORTED)
    message = "; ".join(missing) + "."
    return set_condition(conditions, UNSUPPORTED, "True", "FieldsNotCarriedOut", message, now, doc.generation)


def _written(doc: Doc[Any], wanted: Json) -> Iterator[Action]:
    """Patch the status where it differs, and say a new verdict as an event."""
    patch = status_patch(doc, wanted)
    if patch is None:
        return
    yield patch
    before, after = find_condition(doc, READY) or {}, find_condition(wanted["conditions"], READY) or {}
    if any(before.get(key) != after.get(key) for key in ("status", "reason", "message")):
        severity: Severity = "Warning" if after["status"] == "False" else "Normal"
        if severity == "Warning" or not is_wrapped(doc.raw):  # good news of a wrapped one is told of its claim
            yield Tell(doc, severity, after["reason"], after["message"])


def _fixed(observed: Observed, dataset: Doc[Any]) -> list[str]:
    """Return edits that cannot follow, because claims do not change."""
    if observed.claim is None or not is_owned_by(observed.claim, dataset):
        return []
    have, want = list(observed.claim.spec.get("accessModes") or []), access_modes(dataset.raw)
    if have == want:
        return []
    fixed = (
        f"spec.accessModes: is {', '.join(want)}, but claim {dataset.name} was made with {', '.join(have)} and claims "
        "cannot change; delete the claim to have it made anew"
    )
    return [fixed]


def _orphaned_runtime(observed: Observed, now: dt.datetime) -> Iterator[Action]:
    runtime = observed.runtime
    if runtime is None or runtime.is_deleting or WRAPPER_LABEL in runtime.labels:
        return  # the wrapper makes the Dataset of its own ones
    message = f"There is no Dataset {runtime.ref}, and a ThinRuntime serves the Dataset of its own name. Make it."
    conditions = set_condition(
        runtime.status.get("conditions"), READY, "False", "DatasetNotFound", message, now, runtime.generation
    )
    wanted = {"fusePhase": "NotReady", "conditions": conditions, "observedGeneration": runtime.generation}
    yield from _written(runtime, wanted)


def _end_dataset(observed: Observed, dataset: Doc[Any], now: dt.datetime) -> Iterator[Action]:
    """A Dataset in use stays: a sidecar that restarts would be refused its mount otherwise."""
    if observed.users:
        shown = ", ".join(observed.users[:_NAMES_SHOWN])
        more = f" and {len(observed.users) - _NAMES_SHOWN} more" if len(observed.users) > _NAMES_SHOWN else ""
        message = f"It goes when these pods have ended: {shown}{more}."
        conditions = set_condition(
            dataset.status.get("conditions"), READY, "False", "InUse", message, now, dataset.generation
        )
        yield from _written(dataset, {"conditions": conditions})
        return
    own = [
        doc
        for doc, is_own in (
            (observed.claim, observed.claim is not None and is_owned_by(observed.claim, dataset)),
            (observed.volume, observed.volume is not None and names_dataset(observed.volume, dataset.ref)),
        )
        if doc is not None and is_own
    ]
    for doc in own:
        if not doc.is_deleting:
            yield Delete(doc.kind, doc.ref, doc.uid)
    if not own:
        yield from _drop_finalizer(dataset, DATASET_FINALIZER)


def _hold(doc: Doc[Any], finalizer: str) -> Iterator[Action]:
    if finalizer not in doc.finalizers:
        yield _metadata_patch(doc, "finalizers", [*doc.finalizers, finalizer])


def _drop_finalizer(doc: Doc[Any], finalizer: str) -> Iterator[Action]:
    if finalizer in doc.finalizers:
        yield _metadata_patch(doc, "finalizers", [name for name in doc.finalizers if name != finalizer])


def _take(runtime: Doc[Any], dataset: Doc[Any]) -> Iterator[Action]:
    """Hold a ThinRuntime; a plain one goes with its Dataset, as in Fluid, and a wrapped one with the claim."""
    changes: Json = {}
    if THIN_RUNTIME_FINALIZER not in runtime.finalizers:
        changes["finalizers"] = [*runtime.finalizers, THIN_RUNTIME_FINALIZER]
    if not is_wrapped(dataset.raw) and not any(owner.get("uid") == dataset.uid for owner in runtime.owners):
        changes["ownerReferences"] = [
            *runtime.owners,
            dataset.owner_reference(controller=False, block_deletion=False),
        ]
    if changes:
        yield Patch(runtime.kind, runtime.ref, {"metadata": {"resourceVersion": runtime.version, **changes}})


def _metadata_patch(doc: Doc[Any], key: str, value: Iterable[Any]) -> Patch:
    return Patch(doc.kind, doc.ref, {"metadata": {"resourceVersion": doc.version, key: list(value)}})
