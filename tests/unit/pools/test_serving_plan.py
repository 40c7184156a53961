"""Whose serving certificate is approved, whose is denied and why, and whose is left to others."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from headrace.certificates import make_key, request_for, subject_of
from headrace.cluster.signing import CERTIFICATE_SIGNING_REQUEST, KUBELET_CLIENT_SIGNER, KUBELET_SERVING_SIGNER
from headrace.pools.serving_plan import Approve, Deny, LookAgain, asked_nodes, judge
from headrace.spec.kind import Doc, Json
from headrace.spec.kinds import NODE
from headrace.spec.names import NODE_ADDRESS_LABEL, NODE_POOL_LABEL

USER, NODES = "system:node:vm", "system:nodes"
KEY = make_key()


def node(
    name: str = "vm", *, pool: str = "cloud", addresses: tuple[str, ...] = ("10.0.0.7",), joined_at: str = ""
) -> Doc[Any]:
    labels = {NODE_ADDRESS_LABEL: joined_at} if joined_at else {}
    told = [{"type": "InternalIP", "address": each} for each in addresses]
    ours = {NODE_POOL_LABEL: pool} if pool else {}
    status = {"addresses": [*told, {"type": "Hostname", "address": "kubernetes.default"}]}
    return Doc(NODE, {"metadata": {"name": name, "labels": {**ours, **labels}}, "status": status})


def request(
    *,
    user: str = USER,
    groups: tuple[str, ...] = (NODES,),
    name: str = USER,
    organisations: tuple[str, ...] = (NODES,),
    hosts: tuple[str, ...] = ("vm", "10.0.0.7"),
    usages: tuple[str, ...] = ("digital signature", "server auth"),
    signer: str = KUBELET_SERVING_SIGNER,
    pem: bytes | None = None,
    decided: str = "",
) -> Doc[Any]:
    asked = request_for(KEY, subject_of(name, organisations), hosts) if pem is None else pem
    spec: Json = {"username": user, "groups": list(groups), "signerName": signer, "usages": list(usages)}
    spec["request"] = base64.b64encode(asked).decode()
    conditions = [{"type": decided, "status": "True"}] if decided else []
    meta = {"name": "csr"}
    return Doc(CERTIFICATE_SIGNING_REQUEST, {"metadata": meta, "spec": spec, "status": {"conditions": conditions}})


def verdict(asked: Doc[Any], *nodes: Doc[Any]) -> Any:
    known = {each.name: each for each in nodes or (node(),)}
    return judge(asked, {name: known.get(name) for name in asked_nodes(asked)})


def test_a_node_of_a_pool_gets_a_certificate_for_where_it_is() -> None:
    told = verdict(request())
    assert isinstance(told, Approve)
    assert told.message == "Node vm of pool cloud serves at vm, 10.0.0.7."
    assert isinstance(verdict(request(usages=("digital signature", "key encipherment", "server auth"))), Approve)
    assert isinstance(verdict(request(), node(joined_at="10.0.0.7")), Approve)
    six = node(addresses=("fd00::7",), joined_at="fd00-0000-0000-0000-0000-0000-0000-0007")
    assert isinstance(verdict(request(hosts=("vm", "fd00::7")), six), Approve)


@pytest.mark.parametrize(
    ("how", "why"),
    [
        (
            {"name": "system:node:other"},
            "may have a certificate of its own name, system:node:vm, not of system:node:oth",
        ),
        ({"name": "admin"}, "not of admin"),
        ({"organisations": ("system:masters",)}, "names the group system:nodes, not system:masters"),
        ({"organisations": (NODES, "system:masters")}, "not system:nodes, system:masters"),
        ({"organisations": ()}, "not none"),
        ({"usages": ("digital signature", "server auth", "client auth")}, "A serving certificate is for"),
        ({"usages": ("digital signature",)}, "A serving certificate is for"),
        ({"hosts": ("kubernetes.default",)}, "kubernetes.default is not the name of node vm"),
        ({"hosts": ("vm", "10.0.0.8")}, "10.0.0.8 is no address of node vm; it reports 10.0.0.7"),
        ({"hosts": ()}, "names nothing"),
        ({"user": "alice"}, "alice is not it"),
        ({"groups": ("system:authenticated",)}, "is not it"),
        ({"user": "system:node:other"}, "Node other is of no Pool"),
        ({"pem": b"nonsense"}, "cannot be read"),
    ],
)
def test_what_is_not_the_nodes_is_denied(how: Json, why: str) -> None:
    told = verdict(request(**how), node(), node("other", pool=""))
    assert isinstance(told, Deny)
    assert why in told.message


def test_an_address_that_a_thief_makes_its_node_report_is_denied() -> None:
    told = verdict(request(hosts=("vm", "10.0.0.1")), node(addresses=("10.0.0.1",), joined_at="10.0.0.7"))
    assert isinstance(told, Deny)
    assert "did not join with the address 10.0.0.1" in told.message


def test_a_node_that_has_not_said_where_it_is_is_waited_for() -> None:
    assert isinstance(verdict(request(), node(addresses=())), LookAgain)


def test_what_concerns_no_pools_node_is_left_alone() -> None:
    assert verdict(request(), node(pool="")) is None
    assert verdict(request(user="system:node:new", name="system:node:new")) is None
    assert verdict(request(user="alice", name="bob")) is None
    assert verdict(request(signer=KUBELET_CLIENT_SIGNER)) is None
    assert verdict(request(decided="Approved")) is None
    assert verdict(request(decided="Denied")) is None
