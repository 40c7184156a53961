"""At home or rented: which it is, and the sentence that says so."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from headrace.admission.choice import Offer, choose
from headrace.admission.occupancy import is_new, with_new
from headrace.pools.capacity import NodeRoom, Room
from headrace.spec.kind import Doc, Json
from headrace.spec.kinds import NODE, POD

GI = 2**30


def amount(cpu: int, memory_gi: int = 8, pods: int = 10) -> dict[str, int]:
    return {"cpu": cpu * 1000, "memory": memory_gi * GI, "pods": pods}


def node(name: str, total: int, free: int | None) -> NodeRoom:
    """A node of so many CPUs; None free is one that takes no pods."""
    return NodeRoom(name, amount(total), amount(free) if free is not None else {})


def offer(
    pool: str = "cloud",
    total: int = 64,
    free: int = 64,
    *,
    limit: int | None = None,
    price: str = "0",
    against: str = "",
) -> Offer:
    nodes = (node(f"{pool}-1", total, free),)
    room = Room(amount(total), amount(free), nodes)
    if limit is not None:
        room = Room({"cpu": 64000}, {"cpu": limit * 1000}, nodes, {"cpu": 64000})
    return Offer(pool=pool, needs=amount(3, 2, 1), room=room, price_per_s=Decimal(price), against=against)


NEEDS = amount(2, 1, 1)
LACKS = "no node with the claim's driver has room for cpu 2, memory 1Gi (own-1 lacks cpu 1)"


@pytest.mark.parametrize(
    ("home", "offers", "pool", "has_room", "why"),
    [
        ([node("own-1", 4, 2)], [offer()], "", True, "Stays on nodes with the claim's driver: own-1 has room"),
        ([node("own-1", 4, 1)], [offer()], "cloud", True, f"Goes to pool cloud: {LACKS}."),
        ([node("own-1", 4, None)], [offer()], "cloud", True, "(own-1 takes no new pods)"),
        ([], [offer()], "cloud", True, "no node with the claim's driver is there that it may come to"),
        ([node(f"own-{i}", 4, 0) for i in range(5)], [offer()], "cloud", True, "own-2 lacks cpu 2 and 2 more)"),
        # the sidecar's share counts there and not at home
        ([node("own-1", 4, 1)], [offer(free=2)], "", False, "pool cloud has no room for cpu 3, memory 2Gi either"),
        ([node("own-1", 4, 1)], [offer(limit=2)], "", False, "has no room"),
        ([node("own-1", 4, 1)], [offer(limit=3)], "cloud", True, "Goes to"),
        ([node("own-1", 1, 1)], [offer(free=2)], "cloud", False, "Waits for room in pool cloud"),
        (
            [node("own-1", 1, 1)],
            [offer(total=2, free=2)],
            "",
            False,
            "Waits for a node with the claim's driver: none has room",
        ),
        ([node("own-1", 4, 1)], [offer(against="No profile.")], "", False, "cannot go to pool cloud: No profile."),
        ([node("own-1", 4, 1)], [offer("a", price="2"), offer("b", price="1")], "b", True, "Goes to pool b"),
        ([node("own-1", 4, 1)], [offer("a"), offer("b")], "a", True, "Goes to pool a"),
        ([node("own-1", 4, 1)], [offer("a", against="x"), offer("b", price="9")], "b", True, "Goes to pool b"),
    ],
)
def test_home_goes_first_then_the_cheapest_pool_with_room(
    home: list[NodeRoom], offers: list[Offer], pool: str, has_room: bool, why: str
) -> None:
    choice = choose(NEEDS, home, offers)
    assert (choice.pool, choice.has_room) == (pool, has_room)
    assert why in choice.why


def test_a_pod_without_requests_is_no_pod_for_nothing() -> None:
    asks = {"pods": 1}
    assert choose(asks, [node("own-1", 4, 2)], [offer()]).why.endswith(
        "own-1 has room for a pod that requests nothing."
    )
    assert choose(asks, [node("own-1", 4, None)], [offer()]).pool == "cloud"


def test_a_resource_that_a_pool_does_not_limit_is_the_nodes_to_give() -> None:
    room = Room({"cpu": 4000}, {"cpu": 4000}, (node("c", 8, 8),), {"cpu": 4000})
    assert Offer(pool="c", needs=amount(2, 8, 1), room=room).fits_now
    assert not Offer(pool="c", needs=amount(2, 9, 1), room=room).fits_ever


# -- pods that no scheduler has spoken of yet --------------------------------------------------------------------------


def pod(name: str, cpu: int, status: Json | None = None, **spec: Any) -> Doc[Any]:
    container = {"name": "c", "resources": {"requests": {"cpu": cpu}}}
    body = {"metadata": {"name": name, "namespace": "v"}, "spec": {"containers": [container], **spec}}
    return Doc(POD, {**body, "status": status or {}})


def doc(name: str, cpu: int, **spec: Any) -> Doc[Any]:
    ready = {"conditions": [{"type": "Ready", "status": "True"}], "allocatable": {"cpu": cpu, "pods": 9}}
    return Doc(NODE, {"metadata": {"name": name}, "spec": spec, "status": ready})


def test_new_pods_take_the_first_node_with_room_and_those_without_take_none() -> None:
    nodes = [doc("shut", 9, unschedulable=True), doc("a", 4), doc("b", 2)]
    bound = {"a": {"cpu": 1000, "pods": 1}}
    used = with_new(bound, nodes, [pod("p1", 2), pod("p2", 2), pod("p3", 9)])
    assert {name: each.get("cpu") for name, each in used.items()} == {"a": 3000, "b": 2000}


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        (pod("p", 1), True),
        (pod("p", 1, {"phase": "Pending"}), True),
        (pod("p", 1, {"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False"}]}), False),
        (pod("p", 1, {"phase": "Failed"}), False),
        (pod("p", 1, nodeName="a"), False),
        (pod("p", 1, schedulingGates=[{"name": "wait"}]), False),
    ],
)
def test_which_pods_are_new(case: Doc[Any], expected: bool) -> None:
    assert is_new(case) is expected
