"""What a ledger keeps, in both databases: every edge once, a price for every run with two, and the bill again from events."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from sqlalchemy import text
from tests.postgres import Postgres

from headrace.errors import EngineFailed
from headrace.ledger import database, usage
from headrace.ledger.database import Database
from headrace.ledger.model import WHOLE_POD, Event, Subject
from headrace.ledger.store import Ledger
from headrace.pools.price import PriceCard

CARD = PriceCard(starts_at="Pull", rates={"cpu": Decimal("0.0000077"), "memory": Decimal("0.00000096")})
NOON = dt.datetime(2026, 11, 23, 12, tzinfo=dt.UTC)


def edge(kind: Any, after_s: float = 0, *, uid: str = "u1", namespace: str = "vision", user: str = "ann") -> Event:
    subject = Subject(
        namespace=namespace, job="digits", attempt=1, pod=f"digits-{uid}", pool="cloud", node="c", user=user
    )
    at = NOON + dt.timedelta(seconds=after_s)
    shape = {"cpu": 1500, "memory": 3 * 2**29}
    return Event(pod_uid=uid, container=WHOLE_POD, restart=0, edge=kind, at=at, subject=subject, shape=shape, card=CARD)


def test_recording_twice_bills_once_and_the_replay_is_equal(ledger: Ledger) -> None:
    edges = [edge("start"), edge("end", 61)]
    ledger.record(edges[:1])
    ledger.record(edges)
    ledger.record(edges)
    assert [span.seconds for span in ledger.spans()] == [61]
    assert ledger.has("u1", ["start", "end"])
    assert usage.replay(ledger.events(), ledger.spans(), NOON)["equal"] is True


def test_what_was_recorded_first_stays(ledger: Ledger) -> None:
    ledger.record([edge("start"), edge("end", 61)])
    ledger.record([edge("end", 3600)])
    assert [event.at for event in ledger.events()] == [NOON, NOON + dt.timedelta(seconds=61)]
    assert [span.seconds for span in ledger.spans()] == [61]


def test_a_run_is_priced_by_whichever_edge_comes_last(ledger: Ledger) -> None:
    ledger.record([edge("end", 61)])
    assert ledger.spans() == []
    ledger.record([edge("start")])
    assert [span.seconds for span in ledger.spans()] == [61]


def test_rows_come_back_as_they_were_and_in_order(ledger: Ledger) -> None:
    late, early = edge("start", 0.25, uid="u2", user="ölga ☃ o'hara"), edge("start", uid="u1")
    ledger.record([late, early])
    assert ledger.events() == [early, late]


def test_a_run_over_midnight_is_two_spans_of_exact_cost(ledger: Ledger) -> None:
    ledger.record([edge("start"), edge("end", 86400)])
    first, second = ledger.spans()
    assert (first.seconds, second.seconds) == (43200, 43200)
    rate = Decimal("1.5") * Decimal("0.0000077") + Decimal("1.5") * Decimal("0.00000096")
    assert first.cost + second.cost == 86400 * rate


def test_reading_may_be_narrowed(ledger: Ledger) -> None:
    ledger.record(
        [edge("start"), edge("end", 1), edge("start", uid="u2", namespace="speech"), edge("end", 1, uid="u2")]
    )
    assert {event.subject.namespace for event in ledger.events(namespace="speech")} == {"speech"}
    assert [span.pod_uid for span in ledger.spans(namespace="vision", job="digits")] == ["u1"]
    assert ledger.spans(job="other") == []


def test_the_replay_shows_a_row_that_somebody_changed(ledger: Ledger, url: str) -> None:
    ledger.record([edge("start"), edge("end", 61)])
    with _by_hand(url) as stored, stored.write() as connection:
        connection.execute(text("UPDATE spans SET cost = '0.00'"))
    compared = usage.replay(ledger.events(), ledger.spans(), NOON)
    assert compared["equal"] is False
    assert len(compared["differences"]) == 1


def test_two_writers_at_once_lose_nothing_and_bill_nothing_twice(url: str) -> None:
    """Two leaders for a moment: each records its part of the same runs, in opposite orders."""
    runs = [f"u{i}" for i in range(20)]
    writers = {
        "starts": [
            [edge("start", uid=uid), edge("start", uid=f"{uid}-both"), edge("end", 9, uid=f"{uid}-both")]
            for uid in runs
        ],
        "ends": [
            [edge("end", 61, uid=uid), edge("end", 9, uid=f"{uid}-both"), edge("start", uid=f"{uid}-both")]
            for uid in runs[::-1]
        ],
    }
    together, failures = threading.Barrier(len(writers)), []

    def write(batches: list[list[Event]]) -> None:
        try:
            ledger = Ledger(url)
            together.wait(20)
            for batch in batches:
                ledger.record(batch)
            ledger.close()
        except BaseException as error:
            failures.append(error)
            raise

    threads = [threading.Thread(target=write, args=[batches]) for batches in writers.values()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    ledger = Ledger(url)
    events, spans = ledger.events(), ledger.spans()
    ledger.close()
    assert len(events) == 80
    assert sorted(span.seconds for span in spans) == [9] * 20 + [61] * 20
    assert usage.replay(events, spans, NOON)["equal"] is True


def test_a_writer_that_was_stopped_in_the_middle_keeps_nobody_from_writing(
    server: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a leader that the kernel stopped: its connection is alive, and says nothing any more."""
    monkeypatch.setattr(database, "_IDLE_WITHIN_MS", 200)
    with server.database() as url, _by_hand(url) as stopped:
        ledger = Ledger(url)

        def stop_and_go_on() -> None:
            with stopped.write() as connection:
                connection.execute(text("SELECT 1"))
                ledger.record([edge("start"), edge("end", 61)])
                connection.execute(text("SELECT 1"))

        with pytest.raises(EngineFailed, match="idle-in-transaction"):
            stop_and_go_on()
        assert [span.seconds for span in ledger.spans()] == [61]
        ledger.close()


def test_a_failure_in_the_middle_leaves_nothing(ledger: Ledger) -> None:
    impossible = msgspec.structs.replace(edge("end", 61), edge=None)  # no edge is no row: the second of the two fails
    with pytest.raises(EngineFailed, match="could not be written"):
        ledger.record([edge("start"), impossible])
    assert ledger.events() == []


@contextmanager
def _by_hand(url: str) -> Iterator[Database]:
    opened = Database(url)
    try:
        yield opened
    finally:
        opened.close()
