"""What a node is in a cluster, and what lets it in."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from headrace.clock import FakeClock, format_micro_time
from headrace.cluster.fake import FakeCluster
from headrace.errors import Conflict, Denied, InvalidSpec, NotFound
from headrace.install import joining
from headrace.install.node_objects import JOINED_NODE_EVERYWHERE, Membership, node, node_bindings
from headrace.spec.kind import Json, Ref
from headrace.spec.kinds import LEASE, NODE, POOL
from headrace.spec.names import NODE_ADDRESS_LABEL, NODE_POOL_LABEL, VIRTUAL_NODE_TAINT, address_label

pytestmark = pytest.mark.anyio

CLOUD = Membership(name="vm", pool="cloud", address="10.0.0.7", is_serverless=True)
OWN = Membership(name="vm", pool="own", address="fd00::7")


def pool(name: str, **spec: Any) -> Json:
    return {"metadata": {"name": name}, "spec": {"kind": "own", **spec}}


def test_a_rented_node_has_a_taint_and_an_own_one_has_none() -> None:
    rented, owned = node(CLOUD), node(OWN)
    assert [taint["key"] for taint in rented["spec"]["taints"]] == [VIRTUAL_NODE_TAINT]
    assert owned["spec"]["taints"] == []
    labels = owned["metadata"]["labels"]
    assert (labels[NODE_POOL_LABEL], labels[NODE_ADDRESS_LABEL]) == ("own", address_label("fd00::7"))
    assert ":" not in labels[NODE_ADDRESS_LABEL]
    assert all(label.startswith("node-restriction.kubernetes.io/") for label in OWN.labels)


def test_a_nodes_rights_are_its_own_and_name_no_secrets_and_no_pods() -> None:
    for body in node_bindings("vm"):
        assert [subject["name"] for subject in body["subjects"]] == ["system:node:vm"]
        assert body["metadata"]["name"] == "headrace-joined-node:vm"
    named = {resource for rule in JOINED_NODE_EVERYWHERE for resource in rule["resources"]}
    assert not named & {"secrets", "configmaps", "pods", "nodes", "*"}
    written = {verb for rule in JOINED_NODE_EVERYWHERE for verb in rule["verbs"]} - {"get", "list", "watch"}
    assert written == {"create"}


async def test_a_pool_that_is_not_there_is_told_with_those_that_are() -> None:
    cluster = FakeCluster()
    cluster.seed(POOL, pool("own"), pool("gpu"))
    with pytest.raises(NotFound, match="There is no Pool cloud in this cluster; it has: gpu, own"):
        await joining.membership(cluster, "vm", "cloud", "10.0.0.7")
    found = await joining.membership(cluster, "vm", "own", "10.0.0.7")
    assert not found.is_serverless


async def test_a_pool_whose_nodes_any_node_could_be_is_refused() -> None:
    cluster = FakeCluster()
    cluster.seed(POOL, pool("rented", kind="serverless", nodes={"selector": {"zone": "a"}}))
    with pytest.raises(InvalidSpec, match="whoever stole its credential could then join any pool"):
        await joining.membership(cluster, "vm", "rented", "10.0.0.7")


async def test_whatever_right_is_lacking_is_named() -> None:
    cluster = FakeCluster()
    cluster.script_request(
        "POST",
        "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
        {"status": {"allowed": False}},
    )
    with pytest.raises(Denied, match="may not approve certificates; approve certificates of kubernetes"):
        await joining.check_rights(cluster)


async def test_a_name_that_is_anothers_is_refused() -> None:
    cluster, clock = FakeCluster(), FakeClock()
    await joining.check_name(cluster, CLOUD, clock)  # nobody has it
    cluster.seed(NODE, {"metadata": {"name": "vm"}})
    with pytest.raises(Conflict, match="was not made by headrace node"):
        await joining.check_name(cluster, CLOUD, clock)


@pytest.mark.parametrize(("age_s", "is_alive"), [(5, True), (90, False)])
async def test_a_node_that_lives_elsewhere_keeps_its_name(age_s: int, is_alive: bool) -> None:
    cluster, clock = FakeCluster(), FakeClock()
    cluster.seed(NODE, {"metadata": {"name": "vm", "labels": CLOUD.labels}})
    renewed = format_micro_time(clock.now() - dt.timedelta(seconds=age_s))
    spec = {"renewTime": renewed, "leaseDurationSeconds": 40}
    cluster.seed(LEASE, {"metadata": {"name": "vm", "namespace": "kube-node-lease"}, "spec": spec})
    if is_alive:
        with pytest.raises(Conflict, match="alive: it was heard of 5 s ago"):
            await joining.check_name(cluster, CLOUD, clock)
    else:
        await joining.check_name(cluster, CLOUD, clock)


async def test_joining_again_keeps_what_others_put_on_the_node() -> None:
    cluster = FakeCluster()
    await joining.register(cluster, CLOUD)
    taints = [{"key": "gpu", "effect": "NoSchedule"}]
    cluster.seed(NODE, {"metadata": {"name": "other", "labels": {"a": "b"}}, "spec": {"taints": taints}})
    other = Membership(name="other", pool="cloud", address="10.0.0.8", is_serverless=True)
    await joining.register(cluster, other)
    await joining.register(cluster, other)
    found = await cluster.get(NODE, Ref("", "other"))
    assert [taint["key"] for taint in found.spec["taints"]] == ["gpu", VIRTUAL_NODE_TAINT]
    assert found.labels["a"] == "b"
    assert found.labels[NODE_POOL_LABEL] == "cloud"
