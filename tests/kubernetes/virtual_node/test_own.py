"""A second node of the same machine, of an own pool, whose driver serves PersistentVolumes as the organisation's does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.stack.objects import profile, s3_claim
from tests.kubernetes import objects
from tests.kubernetes.access import Access
from tests.kubernetes.roles import apply, path_of, removed
from tests.kubernetes.virtual_node import pods
from tests.kubernetes.virtual_node.machine import Machine, joined
from tests.storage import s3_bucket

from headrace.spec.kind import Json, Ref


@pytest.fixture
def own_pool(cluster: Access, suffix: str) -> Iterator[str]:
    body = objects.pool(f"own-{suffix}")
    apply(cluster, body)
    yield body["metadata"]["name"]
    removed(cluster, [path_of(body)])


@pytest.fixture
def own(cluster: Access, machine: Machine, own_pool: str, suffix: str, tmp_path: Path) -> Iterator[Machine]:
    with joined(cluster, tmp_path / "home", f"own-vm-{suffix}", own_pool, "--persistent-volumes") as found:
        yield found


@pytest.mark.fuse
def test_a_claim_is_mounted_by_the_nodes_driver(
    own: Machine, machine: Machine, own_pool: str, space: str, suffix: str, tmp_path: Path
) -> None:
    assert own.node["spec"].get("taints", []) == []
    assert own.node["status"]["daemonEndpoints"] != machine.node["status"]["daemonEndpoints"]
    with s3_bucket(tmp_path) as bucket:
        bucket.put({"train/words": b"from the bucket\n"})
        claim = s3_claim(Ref(space, "bucket"), bucket, profile_name=f"s3-{suffix}")
        volume, client = claim[1], profile(f"s3-{suffix}", "rclone")
        apply(own.access, client, *claim)
        mounts = [{"name": "data", "mountPath": "/data"}]
        volumes = [{"name": "data", "persistentVolumeClaim": {"claimName": "bucket"}}]
        readers = [
            pods.pod(
                space,
                f"reads-{index}",
                own_pool,
                "grep -q 'from the bucket' /data/train/words",
                volumes=volumes,
                main={"volumeMounts": mounts},
            )
            for index in range(2)
        ]
        try:
            apply(own.access, *readers)
            for body in readers:
                found: Json = pods.await_phase(own, body, "Succeeded")
                assert found["spec"]["nodeName"] == own.name
        finally:
            removed(own.access, [*map(path_of, readers), path_of(claim[2]), path_of(volume), path_of(client)])
