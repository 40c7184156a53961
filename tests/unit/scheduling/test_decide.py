"""The policy by table: what flips a decision, and what never may."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.pools.price import PriceCard
from headrace.scheduling.decide import decide
from headrace.scheduling.model import (
    Access,
    BurstTerms,
    DataNeed,
    Gang,
    NodeState,
    Place,
    PoolState,
    Running,
    Snapshot,
    Wait,
    Worker,
)
from headrace.spec import amounts

HOUR = 3600.0
GIB = 2**30


def own(cpu: int = 2, free: int | None = None, nodes: int = 1) -> PoolState:
    total = {"cpu": cpu * 1000, "memory": 64 * GIB, "pods": 110}
    left = {**total, "cpu": (cpu if free is None else free) * 1000}
    return PoolState(name="own", kind="own", nodes=tuple(NodeState(f"n{i}", total, left) for i in range(nodes)))


def cloud(per_cpu_hour: str = "0.03", cpu: int = 16, **fields: Any) -> PoolState:
    limit = {"cpu": cpu * 1000, "memory": 64 * GIB}
    card = PriceCard(rates={"cpu": Decimal(per_cpu_hour) / 3600})
    return PoolState(name="cloud", kind="serverless", limit=limit, limit_free=limit, price=card, **fields)


def gang(key: str = "default/b", cpu: int = 1, count: int = 2, **fields: Any) -> Gang:
    values: dict[str, Any] = {
        "queue": "default",
        "rank": 1,
        "enqueued_s": 0.0,
        "workers": (Worker("worker", count, {"cpu": cpu * 1000, "memory": GIB}),),
        "access": {"own": Access(), "cloud": Access()},
        "expected_duration_s": HOUR,
        "duration_source": "spec",
        "terms": BurstTerms(allowed=True, wait_price_per_s=Decimal(2) / 3600),
    }
    return Gang(key=key, **{**values, **fields})


def holder(left_s: float, cpu: int = 2, key: str = "default/a") -> Running:
    return Running(key=key, pool="own", by_node={"n0": {"cpu": cpu * 1000}}, started_s=0.0, expected_duration_s=left_s)


def one(snapshot: Snapshot) -> Place | Wait:
    (decision,) = decide(snapshot)
    return decision


def full_own(
    now_s: float = 0.0, *, pool: PoolState | None = None, left_s: float = HOUR, **gang_fields: Any
) -> Snapshot:
    return Snapshot(
        now_s=now_s,
        pools=(own(free=0), pool or cloud()),
        waiting=(gang(**gang_fields),),
        running=(holder(left_s),),
    )


def test_own_pool_is_taken_first_although_the_cloud_is_free() -> None:
    decision = one(Snapshot(now_s=0, pools=(cloud(), own()), waiting=(gang(),)))
    assert isinstance(decision, Place)
    assert (decision.pool, decision.nodes) == ("own", ("n0", "n0"))


def test_only_the_price_flips_the_decision() -> None:
    cheap, dear = full_own(pool=cloud("0.03")), full_own(pool=cloud("5.00"))
    assert isinstance(one(cheap), Place)
    assert one(cheap).pool == "cloud"  # type: ignore[union-attr]
    waiting = one(dear)
    assert isinstance(waiting, Wait)
    assert waiting.code == "WaitingForOwnCapacity"


def test_only_the_wait_flips_the_decision() -> None:
    # bursting costs 2 cpu x 1 h x 0.60 = 1.20 USD; an hour of waiting is worth 2.00
    long, short = full_own(pool=cloud("0.60"), left_s=HOUR), full_own(pool=cloud("0.60"), left_s=0.5 * HOUR)
    assert isinstance(one(long), Place)
    assert isinstance(one(short), Wait)


def test_only_the_price_of_waiting_flips_the_decision() -> None:
    patient = BurstTerms(allowed=True, wait_price_per_s=Decimal("0.01") / 3600)
    assert isinstance(one(full_own()), Place)
    assert isinstance(one(full_own(terms=patient)), Wait)


def test_only_the_expected_duration_flips_the_decision() -> None:
    assert isinstance(one(full_own(pool=cloud("0.60"), expected_duration_s=HOUR)), Place)
    assert isinstance(one(full_own(pool=cloud("0.60"), expected_duration_s=4 * HOUR)), Wait)


def test_a_wait_that_was_promised_short_ends_when_its_budget_is_used_up() -> None:
    # the budget is 1.20 USD / 2.00 USD per h = 0.6 h of waiting
    before = one(full_own(0.59 * HOUR, pool=cloud("0.60"), left_s=0.7 * HOUR))
    after = one(full_own(0.61 * HOUR, pool=cloud("0.60"), left_s=0.7 * HOUR))
    assert isinstance(before, Wait)
    assert before.until_s == pytest.approx(0.6 * HOUR)
    assert isinstance(after, Place)
    assert "It has waited" in after.because


def test_the_queues_longest_wait_bursts_whatever_it_costs() -> None:
    terms = BurstTerms(allowed=True, wait_price_per_s=Decimal("0.0001") / 3600, max_wait_s=600)
    assert isinstance(one(full_own(599, terms=terms)), Wait)
    placed = one(full_own(601, terms=terms))
    assert isinstance(placed, Place)
    assert "maxWait" in placed.because


def test_a_queue_that_may_not_burst_says_so_and_what_would_help() -> None:
    decision = one(full_own(terms=BurstTerms(allowed=False)))
    assert isinstance(decision, Wait)
    assert decision.helps == ("Allow bursting in queue default: cloud could start it now.",)


def test_the_price_limit_keeps_a_gang_at_home() -> None:
    terms = BurstTerms(allowed=True, wait_price_per_s=Decimal(100), max_price_per_s=Decimal("0.01") / 3600)
    assert isinstance(one(full_own(terms=terms)), Wait)


def test_a_gang_starts_whole_or_not_at_all() -> None:
    snapshot = Snapshot(now_s=0, pools=(own(cpu=4, free=3),), waiting=(gang(cpu=2, count=2),))
    decision = one(snapshot)
    assert isinstance(decision, Wait)


def test_two_workers_need_two_nodes_when_one_is_too_small() -> None:
    decision = one(Snapshot(now_s=0, pools=(own(cpu=2, nodes=2),), waiting=(gang(cpu=2, count=2),)))
    assert isinstance(decision, Place)
    assert sorted(decision.nodes) == ["n0", "n1"]


def test_a_job_larger_than_any_pool_is_told_the_numbers() -> None:
    decision = one(Snapshot(now_s=0, pools=(own(), cloud()), waiting=(gang(cpu=100),)))
    assert isinstance(decision, Wait)
    assert decision.code == "LargerThanAnyPool"
    assert "needs cpu 200, the pool holds cpu 2" in decision.because
    assert "needs cpu 200, the pool holds cpu 16" in decision.because


def test_a_job_that_no_own_pool_can_hold_bursts_at_once() -> None:
    decision = one(Snapshot(now_s=0, pools=(own(), cloud()), waiting=(gang(cpu=4),)))
    assert isinstance(decision, Place)
    assert decision.pool == "cloud"


def test_data_that_is_not_ready_holds_the_cloud_side_only() -> None:
    late = Access(data=(DataNeed("d", missing_bytes=10, is_ready=False, why_not_ready="its mount is being verified"),))
    at_home = Snapshot(now_s=0, pools=(own(), cloud()), waiting=(gang(access={"own": late, "cloud": late}),))
    assert one(at_home).pool == "own"  # type: ignore[union-attr]
    decision = one(
        Snapshot(now_s=0, pools=(own(), cloud()), waiting=(gang(cpu=4, access={"own": late, "cloud": late}),))
    )
    assert isinstance(decision, Wait)
    assert (decision.code, decision.because) == ("DataNotReady", "Dataset d is not ready: its mount is being verified")


def test_a_refused_pool_is_never_taken_and_its_reason_is_shown() -> None:
    access = {"own": Access(), "cloud": Access(refusal="claim data is not labelled fluid.io/runtime-profile")}
    decision = one(full_own(access=access, terms=BurstTerms(allowed=True, wait_price_per_s=Decimal(100))))
    assert isinstance(decision, Wait)
    assert [c.reason for c in decision.choices if c.pool == "cloud"] == [access["cloud"].refusal]


def test_what_every_pool_refuses_is_said_once_and_is_not_about_pools() -> None:
    gone = Access(refusal="There is no claim default/nope.", code="ClaimNotFound")
    everywhere = {"own": gone, "cloud": gone}
    decision = one(Snapshot(now_s=0, pools=(own(), cloud()), waiting=(gang(access=everywhere),)))
    assert isinstance(decision, Wait)
    assert (decision.code, decision.because, decision.helps) == (gone.code, gone.refusal, ())


def test_what_keeps_data_at_home_names_the_wait() -> None:
    away = Access(refusal="Claim data has no label.", code="ClaimNotShareable")
    only_cloud = {"own": Access(refusal="spec.pools names only cloud"), "cloud": away}
    decision = one(Snapshot(now_s=0, pools=(own(), cloud()), waiting=(gang(access=only_cloud),)))
    assert isinstance(decision, Wait)
    assert (decision.code, decision.because) == (
        "ClaimNotShareable",
        "No pool may take it: cloud: Claim data has no label.",
    )
    too_large = one(
        Snapshot(now_s=0, pools=(own(), cloud()), waiting=(gang(cpu=4, access={"own": Access(), "cloud": away}),))
    )
    assert isinstance(too_large, Wait)
    assert too_large.code == "ClaimNotShareable"
    assert too_large.because == (
        "No pool can ever hold it: cloud: Claim data has no label; own: needs cpu 8, the pool holds cpu 2."
    )


def test_sidecars_count_where_they_are_injected() -> None:
    access = {"own": Access(), "cloud": Access(sidecars={"cpu": 15_000})}
    decision = one(full_own(access=access))
    assert isinstance(decision, Wait), "2 x (1 + 15) cpu do not fit into 16"


def test_a_small_job_passes_a_waiting_one_only_if_it_ends_before_its_start() -> None:
    pools = (own(cpu=4, free=2),)
    large = gang("default/large", cpu=4, count=1, terms=BurstTerms())
    short = gang("default/short", cpu=1, count=1, enqueued_s=1, expected_duration_s=600, terms=BurstTerms())
    long = gang("default/long", cpu=1, count=1, enqueued_s=2, expected_duration_s=2 * HOUR, terms=BurstTerms())
    decisions = decide(Snapshot(now_s=0, pools=pools, waiting=(long, short, large), running=(holder(HOUR),)))
    assert [type(d).__name__ for d in decisions] == ["Wait", "Place", "Wait"]
    assert [d.gang.key for d in decisions] == ["default/large", "default/short", "default/long"]


def test_priority_goes_before_age() -> None:
    early = gang("default/early", cpu=2, count=1, rank=0, enqueued_s=0)
    urgent = gang("default/urgent", cpu=2, count=1, rank=2, enqueued_s=9)
    first, second = decide(Snapshot(now_s=10, pools=(own(),), waiting=(early, urgent)))
    assert isinstance(first, Place)
    assert first.gang.key == "default/urgent"
    assert isinstance(second, Wait)


def test_a_pool_in_back_off_is_left_alone() -> None:
    closed = msgspec.structs.replace(cloud(), closed_until_s=100.0, why_closed="had no stock")
    assert isinstance(one(full_own(pool=closed)), Wait)


gangs = st.lists(
    st.builds(
        lambda i, cpu, count, rank, age, hours: gang(
            f"default/g{i}", cpu=cpu, count=count, rank=rank, enqueued_s=float(age), expected_duration_s=hours * HOUR
        ),
        st.integers(0, 10**6),
        st.integers(1, 6),
        st.integers(1, 4),
        st.integers(0, 2),
        st.integers(0, 1000),
        st.integers(1, 9),
    ),
    max_size=12,
    unique_by=lambda g: g.key,
)


@given(gangs, st.integers(0, 8), st.integers(1, 3))
def test_no_decision_gives_away_more_than_there_is(waiting: list[Gang], free: int, nodes: int) -> None:
    pools = (own(cpu=8, free=free, nodes=nodes), cloud(cpu=12))
    decisions = decide(Snapshot(now_s=1000, pools=pools, waiting=tuple(waiting)))
    assert len(decisions) == len(waiting)
    used: dict[str, int] = {}
    rented = 0
    for decision in decisions:
        if not isinstance(decision, Place):
            continue
        shapes = [w.shape for w in decision.gang.workers for _ in range(w.count)]
        if decision.pool == "cloud":
            rented += sum(shape["cpu"] for shape in shapes)
            continue
        assert len(decision.nodes) == len(shapes)
        for node, shape in zip(decision.nodes, shapes, strict=True):
            used[node] = used.get(node, 0) + shape["cpu"]
    assert all(amount <= free * 1000 for amount in used.values())
    assert rented <= 12_000


@given(gangs)
def test_decide_is_a_function_of_the_snapshot_only(waiting: list[Gang]) -> None:
    forward = Snapshot(now_s=0, pools=(own(cpu=8), cloud()), waiting=tuple(waiting))
    backward = Snapshot(now_s=0, pools=(cloud(), own(cpu=8)), waiting=tuple(reversed(waiting)))
    assert decide(forward) == decide(backward)


def test_amounts_are_described_for_people() -> None:
    assert (
        amounts.describe({"memory": 4 * GIB, "cpu": 1500, "gpu/A100": 2, "pods": 0})
        == "cpu 1500m, memory 4Gi, gpu/A100 2"
    )


def test_an_own_node_that_is_not_ready_yet_is_waited_for_within_the_budget() -> None:
    total = {"cpu": 2000, "memory": 64 * GIB, "pods": 110}
    starting = PoolState(name="own", kind="own", nodes=(NodeState("n0", total, {}),))
    early = one(Snapshot(now_s=0, pools=(starting, cloud("0.60")), waiting=(gang(),)))
    assert isinstance(early, Wait)
    assert early.until_s == pytest.approx(0.6 * HOUR)
    late = one(Snapshot(now_s=0.7 * HOUR, pools=(starting, cloud("0.60")), waiting=(gang(),)))
    assert isinstance(late, Place)
