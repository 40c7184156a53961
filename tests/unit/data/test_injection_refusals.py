"""Injection refused: each sentence names the dataset and the cure, and nothing is changed."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from headrace.data.client import ResolvedDataset
from headrace.data.injection import inject
from headrace.data.modes.mode import Capabilities
from headrace.errors import HeadraceError, InvalidSpec, Unsupported
from headrace.spec.kind import Json

Datasets = dict[str, ResolvedDataset]


def bidirectional(pod: Json) -> None:
    pod["spec"]["containers"][0]["volumeMounts"][0]["mountPropagation"] = "Bidirectional"


def recursive(pod: Json) -> None:
    pod["spec"]["containers"][0]["volumeMounts"][0]["recursiveReadOnly"] = "Enabled"


def block(pod: Json) -> None:
    pod["spec"]["containers"][0]["volumeDevices"] = [{"name": "data", "devicePath": "/dev/x"}]


def windows(pod: Json) -> None:
    pod["spec"]["os"] = {"name": "windows"}


def other_namespace(pod: Json) -> None:
    pod["metadata"]["namespace"] = "other"


def reserved_container(pod: Json) -> None:
    pod["spec"]["containers"].append({"name": "fluid-fuse-0"})


def reserved_volume(pod: Json) -> None:
    pod["spec"]["volumes"].append({"name": "fluid-fuse-0-data", "emptyDir": {}})


def writes(pod: Json) -> None:
    pod["spec"]["containers"][0]["volumeMounts"][0]["readOnly"] = False


@pytest.mark.parametrize(
    ("spoil", "mode", "error", "says"),
    [
        (bidirectional, "broker", InvalidSpec, "Bidirectional"),
        (recursive, "broker", Unsupported, "recursiveReadOnly"),
        (block, "broker", InvalidSpec, "block device"),
        (windows, "broker", Unsupported, "Windows"),
        (other_namespace, "broker", InvalidSpec, "another namespace"),
        (reserved_container, "broker", InvalidSpec, "fluid-fuse-0"),
        (reserved_volume, "broker", InvalidSpec, "fluid-fuse-0-data"),
        (writes, "materialise", InvalidSpec, "readOnly: true"),
    ],
)
def test_refusals_name_the_dataset_and_change_nothing(
    pod: Json,
    datasets: Datasets,
    capabilities: Capabilities,
    spoil: Callable[[Json], None],
    mode: str,
    error: type[HeadraceError],
    says: str,
) -> None:
    spoil(pod)
    before = copy.deepcopy(pod)
    with pytest.raises(error, match="starfs-ds") as refusal:
        inject(pod, datasets, mode, capabilities)
    assert says in str(refusal.value)
    assert refusal.value.hint
    assert pod == before


@pytest.mark.parametrize(
    ("change", "mode", "error", "says"),
    [
        ({"file_system_type": "nfs"}, "broker", InvalidSpec, "in the kernel"),
        ({"file_system_type": "ceph"}, "broker", InvalidSpec, "ceph-fuse"),
        ({"image": ""}, "broker", InvalidSpec, "names no image"),
        ({"image": "host", "command": ()}, "broker", InvalidSpec, "image host"),
        ({"image": ""}, "materialise", InvalidSpec, "names no image"),
        ({"materialise": ()}, "materialise", InvalidSpec, "no copy command"),
    ],
)
def test_clients_that_cannot_run_are_refused(
    pod: Json,
    dataset: ResolvedDataset,
    capabilities: Capabilities,
    change: dict[str, Any],
    mode: str,
    error: type[HeadraceError],
    says: str,
) -> None:
    chosen = replace(dataset, client=replace(dataset.client, **change))
    with pytest.raises(error, match="vision/starfs-ds") as refusal:
        inject(pod, {"starfs": chosen}, mode, capabilities)
    assert says in str(refusal.value)
    assert "juicefs" in str(refusal.value)


def test_a_cluster_without_native_sidecars_is_refused(pod: Json, datasets: Datasets) -> None:
    with pytest.raises(Unsupported, match="native sidecar"):
        inject(pod, datasets, "broker", Capabilities(native_sidecars=False))
    assert inject(pod, datasets, "materialise", Capabilities(native_sidecars=False)) is not pod


@pytest.mark.parametrize(
    ("mode", "error"), [("platform", Unsupported), ("privileged", Unsupported), ("brokr", InvalidSpec)]
)
def test_modes_that_are_not_there(
    pod: Json, datasets: Datasets, capabilities: Capabilities, mode: str, error: type[HeadraceError]
) -> None:
    with pytest.raises(error, match=mode):
        inject(pod, datasets, mode, capabilities)


def test_one_dataset_that_cannot_be_had_refuses_the_whole_pod(
    pod: Json, datasets: Datasets, capabilities: Capabilities
) -> None:
    pod["spec"]["volumes"].append({"name": "pictures", "persistentVolumeClaim": {"claimName": "images"}})
    pod["spec"]["containers"][0]["volumeMounts"].append({"name": "pictures", "mountPath": "/images"})
    broken = replace(datasets["images"], client=replace(datasets["images"].client, file_system_type="nfs"))
    with pytest.raises(InvalidSpec, match="images-ds"):
        inject(pod, {**datasets, "images": broken}, "broker", capabilities)


def test_native_leaves_to_the_driver_what_only_it_can_do(pod: Json, datasets: Datasets) -> None:
    bidirectional(pod)
    block(pod)
    assert inject(pod, datasets, "native", Capabilities()) is pod
