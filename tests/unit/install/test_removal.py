"""What is taken out, what stays, and where Headrace does not belong at all."""

from __future__ import annotations

import pytest

from headrace.cluster.fake import FakeCluster
from headrace.errors import Conflict, InvalidSpec, NotFound, Unsupported
from headrace.install.apply import apply, check_cluster
from headrace.install.installation import Installation
from headrace.install.kinds import CLUSTER_ROLE, DEPLOYMENT
from headrace.install.node_objects import node_bindings
from headrace.install.objects import kind_of, labelled, objects, ref_of
from headrace.install.removal import remove
from headrace.spec.kind import Ref
from headrace.spec.kinds import CSI_DRIVER, DATASET, NODE_MOUNT

pytestmark = pytest.mark.anyio
INSTALLATION = Installation()


def installed() -> FakeCluster:
    made = FakeCluster()
    for body in objects(INSTALLATION):
        made.seed(kind_of(body), body)
    return made


async def removed(made: FakeCluster, *, purge: bool = False) -> tuple[set[str], list[str]]:
    """Return what was deleted, and what was said."""
    said: list[str] = []
    gone = {f"{each.kind.name} {each.ref.name}" async for each in remove(made, INSTALLATION, said.append, purge=purge)}
    return gone, said


async def test_what_bears_our_name_and_not_our_label_is_left_alone() -> None:
    made = installed()
    made.seed(CLUSTER_ROLE, {"metadata": {"name": "headrace-edit"}, "rules": []})
    gone, _ = await removed(made)
    assert "ClusterRole headrace-edit" not in gone
    assert "ClusterRole headrace-view" in gone
    assert await made.get(CLUSTER_ROLE, Ref("", "headrace-edit"))


async def test_what_stays_is_held_by_nothing_of_ours() -> None:
    made = installed()
    finalizers = ["fluid-dataset-controller-finalizer", "somebody.example/else"]
    made.seed(DATASET, {"metadata": {"name": "d", "namespace": "p", "finalizers": finalizers}, "spec": {}})
    gone, said = await removed(made)
    assert "CustomResourceDefinition datasets.data.fluid.io" not in gone
    assert "datasets.data.fluid.io (1)" in said[0]
    assert (await made.get(DATASET, Ref("p", "d"))).finalizers == ("somebody.example/else",)


async def test_a_purge_takes_user_data_too() -> None:
    made = installed()
    made.seed(DATASET, {"metadata": {"name": "d", "namespace": "p"}, "spec": {}})
    gone, _ = await removed(made, purge=True)
    assert {"CustomResourceDefinition datasets.data.fluid.io", "PersistentVolumeClaim headrace-ledger"} <= gone
    with pytest.raises(NotFound):
        await made.get(DATASET, Ref("p", "d"))
    assert await removed(made) == (set(), [])


async def test_machines_that_are_nodes_still_are_named_and_keep_their_rights_for_a_later_installation() -> None:
    made = installed()
    for node in ("gpu-2", "gpu-1"):
        for body in node_bindings(node):
            made.seed(kind_of(body), labelled(body))
    gone, said = await removed(made)
    assert "Still joined by headrace node" in said[0]
    assert "gpu-1, gpu-2" in said[0]
    assert not [name for name in gone if "gpu" in name]
    gone, said = await removed(made, purge=True)
    assert {
        f"{kind} headrace-joined-node:{node}"
        for kind in ("ClusterRoleBinding", "RoleBinding")
        for node in ("gpu-1", "gpu-2")
    } <= gone
    assert await removed(made) == (set(), [])


async def test_nothing_is_taken_from_under_pods_that_only_the_driver_can_unmount() -> None:
    made = installed()
    spec = {"nodeName": "n1", "dataset": {"namespace": "vision", "name": "digits"}}
    made.seed(NODE_MOUNT, {"metadata": {"name": "m"}, "spec": spec})
    with pytest.raises(Conflict, match="vision/digits on n1"):
        await removed(made)
    assert await made.get(DEPLOYMENT, Ref(INSTALLATION.namespace, "headrace-controller"))


async def test_what_never_changes_is_made_anew() -> None:
    made = installed()
    body = next(body for body in objects(INSTALLATION) if kind_of(body) is CSI_DRIVER)
    made.fail_next("patch", InvalidSpec("spec.volumeLifecycleModes: field is immutable"), kind=CSI_DRIVER, times=2)
    before = await made.get(CSI_DRIVER, ref_of(body))
    assert [each.what async for each in apply(made, [body], dry_run=True)] == ["replaced"]
    assert (await made.get(CSI_DRIVER, ref_of(body))).uid == before.uid
    assert [each.what async for each in apply(made, [body])] == ["replaced"]
    assert (await made.get(CSI_DRIVER, ref_of(body))).uid != before.uid
    made.fail_next("patch", InvalidSpec("no"), kind=CLUSTER_ROLE)
    role = next(body for body in objects(INSTALLATION) if kind_of(body) is CLUSTER_ROLE)
    with pytest.raises(InvalidSpec):
        [each async for each in apply(made, [role])]


async def test_a_server_without_deployments_is_none_to_install_on() -> None:
    made = FakeCluster()
    made.fail_next("request", NotFound("There is no such path."))
    with pytest.raises(Unsupported, match="embedded engine has all of Headrace in it"):
        await check_cluster(made, INSTALLATION)
    with pytest.raises(NotFound):
        await made.get(DEPLOYMENT, Ref(INSTALLATION.namespace, "headrace-controller"))
