"""From metering events to money: exact, split at midnight, and the same when derived again."""

from __future__ import annotations

import datetime as dt
import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.errors import InvalidSpec
from headrace.ledger import usage
from headrace.ledger.model import WHOLE_POD, Event, Subject
from headrace.ledger.plan import ended_at, plan, started_at
from headrace.ledger.pricing import spans
from headrace.pools.price import PriceCard, from_json, to_json
from headrace.spec.kind import Doc, Json
from headrace.spec.kinds import POD
from headrace.spec.names import JOB_LABEL, METERED_FINALIZER, POOL_LABEL

CARD = PriceCard(starts_at="Pull", rates={"cpu": Decimal("0.0000077"), "memory": Decimal("0.00000096")})
SHAPE = {"cpu": 1500, "memory": 3 * 2**29}
NOON = dt.datetime(2026, 11, 23, 12, tzinfo=dt.UTC)
SUBJECT = Subject(
    namespace="vision", job="digits", attempt=1, pod="digits-1-worker-0", pool="cloud", node="c", user="ann"
)


def event(edge: Any, at: dt.datetime, *, uid: str = "u1", card: PriceCard = CARD) -> Event:
    return Event(pod_uid=uid, container=WHOLE_POD, restart=0, edge=edge, at=at, subject=SUBJECT, shape=SHAPE, card=card)


def seconds(count: float) -> dt.timedelta:
    return dt.timedelta(seconds=count)


def test_a_run_costs_its_seconds_times_its_shape_exactly() -> None:
    (span,) = spans([event("start", NOON), event("end", NOON + seconds(97))], NOON)
    assert span.seconds == 97
    assert span.cost == 97 * (Decimal("1.5") * Decimal("0.0000077") + Decimal("1.5") * Decimal("0.00000096"))


@pytest.mark.parametrize(
    ("granularity", "minimum", "ran", "billed"),
    [(1, 0, 0.2, 1), (1, 0, 1.0, 1), (1, 60, 5, 60), (60, 0, 61, 120), (60, 300, 61, 300), (1, 60, 0, 0)],
)
def test_granularity_and_minimum(granularity: int, minimum: int, ran: float, billed: int) -> None:
    card = PriceCard(granularity_s=granularity, minimum_s=minimum)
    assert card.billed_seconds(ran) == billed


@pytest.mark.parametrize(("minimum", "billed"), [(0, 1), (60, 60)])
def test_a_run_within_one_second_of_kubernetes_whole_ones_costs_one(minimum: int, billed: int) -> None:
    card = PriceCard(minimum_s=minimum, rates=CARD.rates)
    (span,) = spans([event("start", NOON, card=card), event("end", NOON)], NOON)
    assert span.seconds == billed


def test_shapes_are_rounded_up_to_what_the_provider_sells() -> None:
    card = PriceCard(rates={"cpu": Decimal(1), "pod": Decimal(5)}, round_up={"cpu": 2000})
    assert card.per_second({"cpu": 2500}) == 4 + 5


def test_spans_are_split_at_midnight_and_lose_no_second() -> None:
    begin = dt.datetime(2026, 11, 23, 23, 59, 50, tzinfo=dt.UTC)
    found = spans([event("start", begin), event("end", begin + seconds(2 * 86400 + 15))], begin)
    assert [span.seconds for span in found] == [10, 86400, 86400, 5]
    assert [span.start.day for span in found] == [23, 24, 25, 26]


def test_a_run_that_goes_on_is_priced_until_now_and_open() -> None:
    (span,) = spans([event("start", NOON)], NOON + seconds(30))
    assert (span.seconds, span.end) == (30, None)


@given(
    st.lists(st.tuples(st.integers(0, 3 * 86400), st.integers(0, 2 * 86400)), min_size=1, max_size=8),
    st.integers(1, 90),
    st.integers(0, 120),
)
def test_the_parts_of_a_run_cost_what_the_whole_costs(runs: list[tuple[int, int]], step: int, minimum: int) -> None:
    card = PriceCard(granularity_s=step, minimum_s=minimum, rates={"cpu": Decimal("0.0000077")})
    for number, (offset, length) in enumerate(runs):
        begin = NOON + seconds(offset)
        found = spans(
            [
                event("start", begin, uid=str(number), card=card),
                event("end", begin + seconds(length), uid=str(number), card=card),
            ],
            NOON,
        )
        assert sum(s.seconds for s in found) == card.billed_seconds(length or 0.5)
        assert sum(s.cost for s in found) == card.cost(SHAPE, card.billed_seconds(length or 0.5))
        assert all(s.seconds >= 0 for s in found)


def test_the_card_survives_being_stored() -> None:
    assert from_json(json.loads(json.dumps(to_json(CARD)))) == CARD


def test_currencies_are_never_added() -> None:
    euro = PriceCard(currency="EUR", rates={"cpu": Decimal(1)})
    found = spans([event("start", NOON), event("start", NOON, uid="u2", card=euro)], NOON + seconds(1))
    with pytest.raises(InvalidSpec, match="EUR and USD"):
        usage.bill(found, "job")


def pod(status: Json, *, finalizers: tuple[str, ...] = (METERED_FINALIZER,), **meta: Any) -> Doc[Any]:
    return Doc(
        POD,
        {
            "metadata": {
                "name": "digits-1-worker-0",
                "namespace": "vision",
                "uid": "u1",
                "labels": {JOB_LABEL: "digits", POOL_LABEL: "cloud"},
                "finalizers": list(finalizers),
                **meta,
            },
            "spec": {"nodeName": "c", "containers": [{"name": "main", "resources": {"requests": {"cpu": "1500m"}}}]},
            "status": status,
        },
    )


def ran(start: str, end: str | None) -> Json:
    state = {"terminated": {"startedAt": start, "finishedAt": end}} if end else {"running": {"startedAt": start}}
    return {"name": "main", "state": state}


RUNNING = {
    "phase": "Running",
    "startTime": "2026-11-23T12:00:00Z",
    "containerStatuses": [ran("2026-11-23T12:00:05Z", None)],
}
ENDED = {
    "phase": "Succeeded",
    "startTime": "2026-11-23T12:00:00Z",
    "initContainerStatuses": [ran("2026-11-23T12:00:01Z", "2026-11-23T12:01:09Z")],
    "containerStatuses": [ran("2026-11-23T12:00:05Z", "2026-11-23T12:01:05Z")],
}


def test_the_clock_starts_where_the_card_says() -> None:
    assert started_at({"status": RUNNING}, CARD) == NOON
    assert started_at({"status": RUNNING}, PriceCard(starts_at="Start")) == NOON + seconds(5)
    assert started_at({"status": {"phase": "Pending"}}, CARD) is None


def test_the_clock_ends_with_the_last_container_sidecars_included() -> None:
    assert ended_at({"status": ENDED}) == NOON + seconds(69)
    assert ended_at({"status": RUNNING}) is None


def test_a_running_pod_is_kept_and_an_ended_one_is_released_after_its_events() -> None:
    assert [e.edge for e in plan(pod(RUNNING), CARD).events] == ["start"]
    assert not plan(pod(RUNNING), CARD).is_released
    done = plan(pod(ENDED), CARD)
    assert [e.edge for e in done.events] == ["start", "end"]
    assert done.is_released


def test_a_pod_that_never_ran_costs_nothing_and_is_released() -> None:
    gone = plan(pod({"phase": "Pending"}, deletionTimestamp="2026-11-23T12:00:00Z"), CARD)
    assert gone.events == ()
    assert not gone.is_released, "a node may still start it"
    unbound = pod({"phase": "Pending"}, deletionTimestamp="2026-11-23T12:00:00Z")
    del unbound.raw["spec"]["nodeName"]
    assert plan(unbound, CARD).is_released
    assert plan(pod({"phase": "Failed"}), CARD).is_released


def test_pods_of_others_are_none_of_our_business() -> None:
    assert plan(pod(ENDED, finalizers=()), CARD) == plan(pod(RUNNING, finalizers=()), CARD)
    assert not plan(pod(ENDED, finalizers=()), CARD).is_released
