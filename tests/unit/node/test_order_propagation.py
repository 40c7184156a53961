"""Which mounts a later mount must reach: those that were asked for it, and those whose driver heals them."""

from __future__ import annotations

from pathlib import Path

import pytest

from headrace.node.images.accounts import Account
from headrace.node.order import Prepared, start_order
from headrace.node.podspec import PodSpec
from headrace.node.volumes.pod_volumes import Source
from headrace.spec.kind import Json


def propagation(mount: Json, source: Source) -> str:
    pod = PodSpec(
        {
            "metadata": {"name": "p", "namespace": "n", "uid": "u"},
            "spec": {"containers": [{"name": "main", "command": ["true"], "volumeMounts": [mount]}]},
        }
    )
    prepared = Prepared(
        env={},
        volumes={"data": source},
        hosts=Path("/h"),
        log=Path("/l"),
        resolv_conf=None,
        closed="/closed",
        root="host",
        image=None,
        who=Account(0, 0),
    )
    order = start_order(pod, pod.containers[0], 0, prepared)
    found = next(entry for entry in order["mounts"] if entry["target"] == "/data")
    return str(found["propagation"])


@pytest.mark.parametrize(
    ("asked", "heals", "found"),
    [
        ({}, False, "none"),
        ({}, True, "HostToContainer"),
        ({"mountPropagation": "HostToContainer"}, False, "HostToContainer"),
        ({"mountPropagation": "None"}, True, "none"),
    ],
)
def test_a_volume_that_its_driver_heals_is_reached_unless_the_pod_says_no(asked: Json, heals: bool, found: str) -> None:
    mount = {"name": "data", "mountPath": "/data", **asked}
    assert propagation(mount, Source("/v", heals=heals)) == found
