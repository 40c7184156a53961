"""Everything this package writes is accepted by validation, as a server would accept it."""

from __future__ import annotations

from typing import Any

import pytest

from headrace.data.client import ClientTools, ResolvedDataset
from headrace.data.injection import inject
from headrace.data.modes.mode import Capabilities
from headrace.data.runtime.volume import claim_body, volume_body
from headrace.data.verify.pod import ProbeSettings, named, probe_pod
from headrace.data.wrapper.objects import dataset_body, runtime_body
from headrace.spec.defaults import apply_defaults
from headrace.spec.kind import Json, Kind
from headrace.spec.kinds import DATASET, PERSISTENT_VOLUME, PERSISTENT_VOLUME_CLAIM, POD, THIN_RUNTIME
from headrace.spec.validation import validate

EVERYTHING = Capabilities(tools=ClientTools(path="/bin", device_place="device"))


def problems(kind: Kind[Any], body: Json) -> list[str]:
    return [str(problem) for problem in validate(kind, apply_defaults(kind, body))]


@pytest.mark.parametrize("mode", ["broker", "materialise"])
def test_injected_pods(pod: Json, datasets: dict[str, ResolvedDataset], mode: str) -> None:
    pod["spec"]["volumes"].append({"name": "pictures", "persistentVolumeClaim": {"claimName": "images"}})
    pod["spec"]["containers"][0]["volumeMounts"].append({"name": "pictures", "mountPath": "/images", "subPath": "a"})
    assert problems(POD, inject(pod, datasets, mode, EVERYTHING)) == []


@pytest.mark.parametrize("mode", ["broker", "materialise", "native"])
def test_probe_pods(make: Any, dataset_of: Any, mode: str) -> None:
    resolved = dataset_of("demo", name="demo")
    pod = probe_pod(make.dataset(), resolved, make.pool("cloud", mode), EVERYTHING, ProbeSettings())
    assert problems(POD, named(pod, "key", 3)) == []


def test_an_injected_and_defaulted_pod_is_recognised(pod: Json, datasets: dict[str, ResolvedDataset]) -> None:
    once = apply_defaults(POD, inject(pod, datasets, "broker", EVERYTHING))
    mounts = [{"name": "data", "mountPath": "/late", "readOnly": True}]
    once["spec"]["containers"].append({"name": "late", "image": "x", "volumeMounts": mounts})
    again = inject(once, datasets, "broker", EVERYTHING)
    assert len(again["spec"]["initContainers"]) == 1


def test_objects(make: Any) -> None:
    claim = make.claim("0numbers.first")
    assert problems(DATASET, dataset_body(claim)) == []
    assert problems(THIN_RUNTIME, runtime_body(claim, "juicefs")) == []
    assert problems(PERSISTENT_VOLUME, volume_body(make.dataset())) == []
    assert problems(PERSISTENT_VOLUME_CLAIM, claim_body(make.dataset())) == []
