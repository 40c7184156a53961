"""What the ledger speaks of: metering events and priced spans."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Literal

import msgspec

from headrace.pools.price import PriceCard
from headrace.spec.amounts import Amounts

Edge = Literal["start", "end"]
WHOLE_POD = "*"
"""Container name of events about a pod as a whole, which is what price cards charge for."""


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """Who used what, where: everything a bill can be grouped by."""

    namespace: str
    job: str
    attempt: int
    pod: str
    pool: str
    node: str
    user: str


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One edge of one run. `(pod_uid, container, restart, edge)` is unique; recording it again changes nothing."""

    pod_uid: str
    container: str
    restart: int
    edge: Edge
    at: dt.datetime
    subject: Subject
    shape: Amounts
    card: PriceCard

    @property
    def key(self) -> tuple[str, str, int]:
        return self.pod_uid, self.container, self.restart


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """A priced piece of one run, at most one day (UTC) long. `end` is None while it still runs.

    `seconds` are the billed ones: whole, rounded up by the card's granularity, at least its minimum over all parts.
    """

    pod_uid: str
    container: str
    restart: int
    part: int
    start: dt.datetime
    end: dt.datetime | None
    seconds: int
    cost: Decimal
    currency: str
    subject: Subject
    shape: Amounts
