"""The writes that one Dataset with its ThinRuntime takes from nothing to Bound, by a client that decides nothing.

What a real API server, etcd and Kubernetes' own controllers need for them on a machine is what no controller of any
kind can save there: it must be beside a rate, or nobody can tell what the rate says.
"""

from __future__ import annotations

from typing import Any

from bench.clusters.calls import MERGE, Caller
from bench.clusters.sites import ELSEWHERE, NOT_ASKED

from headrace.data.runtime.volume import claim_body, volume_body
from headrace.spec.kind import Doc
from headrace.spec.kinds import DATASET
from headrace.spec.names import DATASET_FINALIZER, THIN_RUNTIME_FINALIZER

Json = dict[str, Any]
WRITES = 10
_API = "data.fluid.io/v1alpha1"
_FLUID, _CORE = f"/apis/{_API}/namespaces/{ELSEWHERE}", f"/api/v1/namespaces/{ELSEWHERE}"
_NOW = "2026-01-01T00:00:00Z"


def write(caller: Caller, name: str) -> None:
    """Make a Dataset and all that belongs to it, as its user and its controller do."""
    meta: Json = {"name": name, "namespace": ELSEWHERE, "labels": {NOT_ASKED: "true"}}
    mounts = [{"mountPoint": f"s3://bucket/{name}", "name": "b"}]
    made = caller.call("POST", f"{_FLUID}/datasets", _object(_API, "Dataset", meta, spec={"mounts": mounts}))
    runtime = _object(_API, "ThinRuntime", meta, spec={"profileName": "bench"})
    caller.call("POST", f"{_FLUID}/thinruntimes", runtime)
    dataset: Doc[Any] = Doc(DATASET, made)
    owner = dataset.owner_reference(controller=False, block_deletion=False)
    _patch(caller, f"{_FLUID}/datasets/{name}", {"metadata": {"finalizers": [DATASET_FINALIZER]}})
    held = {"finalizers": [THIN_RUNTIME_FINALIZER], "ownerReferences": [owner]}
    _patch(caller, f"{_FLUID}/thinruntimes/{name}", {"metadata": held})
    caller.call("POST", "/api/v1/persistentvolumes", volume_body(dataset))
    caller.call("POST", f"{_CORE}/persistentvolumeclaims", claim_body(dataset))
    config = _object("v1", "ConfigMap", {**meta, "name": f"{name}-config"}, data={"config.json": "x" * 200})
    caller.call("POST", f"{_CORE}/configmaps", config)
    ready = {"type": "Ready", "status": "True", "reason": "DatasetReady", "message": "Configured with profile bench."}
    conditions = [{**ready, "lastTransitionTime": _NOW, "observedGeneration": 1}]
    said = {"conditions": conditions, "mounts": mounts, "observedGeneration": 1}
    _patch(caller, f"{_FLUID}/datasets/{name}/status", {"status": {**said, "phase": "Bound"}})
    _patch(caller, f"{_FLUID}/thinruntimes/{name}/status", {"status": {**said, "fusePhase": "Ready"}})
    about = {"apiVersion": _API, "kind": "Dataset", "namespace": ELSEWHERE, "name": name, "uid": dataset.uid}
    event = {"involvedObject": about, "type": "Normal", "reason": "DatasetReady", "message": ready["message"]}
    caller.call("POST", f"{_CORE}/events", _object("v1", "Event", {**meta, "name": f"{name}.1"}, **event))


def remove(caller: Caller, name: str) -> None:
    """Ask for all of it to go."""
    for kind in ("datasets", "thinruntimes"):
        _patch(caller, f"{_FLUID}/{kind}/{name}", {"metadata": {"finalizers": None}})
        caller.send("DELETE", f"{_FLUID}/{kind}/{name}")
    caller.send("DELETE", f"{_CORE}/persistentvolumeclaims/{name}")
    caller.send("DELETE", f"/api/v1/persistentvolumes/{ELSEWHERE}-{name}")
    caller.send("DELETE", f"{_CORE}/configmaps/{name}-config")


def _object(api_version: str, kind: str, meta: Json, **rest: Any) -> Json:
    return {"apiVersion": api_version, "kind": kind, "metadata": meta, **rest}


def _patch(caller: Caller, path: str, body: Json) -> None:
    caller.call("PATCH", path, body, MERGE)
