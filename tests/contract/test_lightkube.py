"""An ordinary Python client: lightkube, which knows nothing of this server but its kubeconfig."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from lightkube import ApiError, Client
from lightkube.config.kubeconfig import KubeConfig
from lightkube.generic_resource import create_namespaced_resource
from lightkube.models.core_v1 import Container, PodSpec
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.core_v1 import ConfigMap, Pod
from lightkube.types import PatchType

TrainJob = create_namespaced_resource("headrace.io", "v1alpha1", "TrainJob", "trainjobs")


@pytest.fixture
def client(facade: Any, namespace: str) -> Iterator[Any]:
    """A client in the test's namespace."""
    made = Client(config=KubeConfig.from_file(str(facade.kubeconfig)).get(), namespace=namespace, trust_env=False)
    yield made
    made.close()


def test_objects_come_and_go(client: Any) -> None:
    client.create(ConfigMap(metadata=ObjectMeta(name="c"), data={"a": "1"}))
    client.patch(ConfigMap, "c", {"data": {"b": "2"}}, patch_type=PatchType.MERGE)
    found = client.get(ConfigMap, "c")
    assert found.data == {"a": "1", "b": "2"}
    found.data = {"c": "3"}
    assert client.replace(found).data == {"c": "3"}
    with pytest.raises(ApiError) as stale:
        client.replace(found)
    assert stale.value.status.code == 409
    assert "c" in [one.metadata.name for one in client.list(ConfigMap)]
    client.delete(ConfigMap, "c")
    with pytest.raises(ApiError) as gone:
        client.get(ConfigMap, "c")
    assert gone.value.status.reason == "NotFound"


def test_configurations_are_applied(client: Any) -> None:
    mine = ConfigMap(apiVersion="v1", kind="ConfigMap", metadata=ObjectMeta(name="a"), data={"a": "1"})
    made = client.apply(mine, field_manager="me")
    assert [(entry.manager, entry.operation) for entry in made.metadata.managedFields] == [("me", "Apply")]
    theirs = ConfigMap(apiVersion="v1", kind="ConfigMap", metadata=ObjectMeta(name="a"), data={"a": "2"})
    with pytest.raises(ApiError, match=r'conflict with "me": \.data\.a'):
        client.apply(theirs, field_manager="you")
    assert client.apply(theirs, field_manager="you", force=True).data == {"a": "2"}


def test_pods_are_typed(client: Any) -> None:
    spec = PodSpec([Container(name="main", image="host")], schedulerName="nobody")
    made = client.create(Pod(metadata=ObjectMeta(name="p"), spec=spec))
    assert made.status.phase == "Pending"
    patch = {"spec": {"containers": [{"name": "main", "image": "other"}]}}
    assert client.patch(Pod, "p", patch, patch_type=PatchType.STRATEGIC).spec.containers[0].image == "other"
    status = client.patch(Pod.Status, "p", {"status": {"phase": "Running"}}, patch_type=PatchType.MERGE)
    assert status.status.phase == "Running"


def test_watch(client: Any, namespace: str) -> None:
    client.create(ConfigMap(metadata=ObjectMeta(name="w"), data={}))
    watch = client.watch(ConfigMap, fields={"metadata.name": "w"})
    assert next(watch)[0] == "ADDED"
    client.delete(ConfigMap, "w")
    assert next(watch)[0] == "DELETED"
    watch.close()


def test_custom_resources(client: Any) -> None:
    client.create(TrainJob(metadata=ObjectMeta(name="j"), spec={"command": ["true"]}))
    assert client.get(TrainJob, "j").spec["command"] == ["true"]
    assert len(list(client.list(TrainJob, chunk_size=1))) == 1
