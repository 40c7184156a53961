"""What `decide` is given and what it answers: small frozen values, no clock, no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Literal

import msgspec

from headrace.pools.price import FREE, PriceCard
from headrace.spec.amounts import Amounts

PoolKind = Literal["own", "elastic", "serverless"]
Rank = int
"""Priority of a gang: higher goes first. guaranteed 2, preferred 1, best-effort 0."""


class Worker(msgspec.Struct, frozen=True):
    """A number of equal pods. `shape` is what one of them asks for, sidecars left out."""

    role: str
    count: int
    shape: Amounts


class DataNeed(msgspec.Struct, frozen=True):
    """One dataset of a gang, as seen from one pool.

    `missing_bytes` is None where nobody knows; `is_ready` says that a job there could be fed now.
    """

    name: str
    missing_bytes: int | None = None
    is_ready: bool = True
    why_not_ready: str = ""
    readers: int = 1


class Access(msgspec.Struct, frozen=True):
    """Whether and how a gang could run in one pool.

    `refusal` says why it may not go there at all; `code` is the word for it, such as ClaimNotShareable, where the
    sentence itself says what would help: the gang's data is the cause, or what this version does not do.
    """

    refusal: str = ""
    code: str = ""
    sidecars: Amounts = {}
    data: tuple[DataNeed, ...] = ()


class BurstTerms(msgspec.Struct, frozen=True, kw_only=True):
    """What a queue allows: the price of waiting, and the limits of renting. Money in the pools' currency.

    `max_price_per_s` is a GPU's, or the whole gang's where it has none.
    """

    allowed: bool = False
    wait_price_per_s: Decimal = Decimal(0)
    max_wait_s: float | None = None
    max_price_per_s: Decimal | None = None


class Gang(msgspec.Struct, frozen=True, kw_only=True):
    """Pods that start together or not at all."""

    key: str
    queue: str
    rank: Rank
    enqueued_s: float
    workers: tuple[Worker, ...]
    access: Mapping[str, Access]
    expected_duration_s: float
    duration_source: str
    terms: BurstTerms = BurstTerms()
    not_before_s: float = 0.0


class NodeState(msgspec.Struct, frozen=True):
    name: str
    total: Amounts
    free: Amounts


class PoolState(msgspec.Struct, frozen=True, kw_only=True):
    """One pool now. Serverless pools have a `limit` and no nodes that matter."""

    name: str
    kind: PoolKind
    nodes: tuple[NodeState, ...] = ()
    limit: Amounts | None = None
    limit_free: Amounts = {}
    price: PriceCard = FREE
    line_price_per_gb: Decimal = Decimal(0)
    line_bytes_per_s: Decimal | None = None
    closed_until_s: float = 0.0
    why_closed: str = ""
    order: int = 0

    @property
    def is_own(self) -> bool:
        return self.kind == "own"


class Running(msgspec.Struct, frozen=True, kw_only=True):
    """A gang that holds resources: on own pools by node, on others as a sum under the empty name."""

    key: str
    pool: str
    by_node: Mapping[str, Amounts]
    started_s: float
    expected_duration_s: float


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """Everything `decide` may know. Times are seconds since the epoch."""

    now_s: float
    pools: tuple[PoolState, ...]
    waiting: tuple[Gang, ...]
    running: tuple[Running, ...] = ()


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """What one pool would mean for one gang. None is unknown; `fits` is False where it could never run."""

    pool: str
    fits: bool
    starts_in_s: float | None
    cost: Decimal | None
    currency: str
    bytes_to_move: int | None
    reason: str = ""
    code: str = ""
    lacks: Amounts = {}
    holders: tuple[str, ...] = ()


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Start the gang now. `nodes` lists a node for every worker in order, on own pools; empty elsewhere."""

    gang: Gang
    pool: str
    nodes: tuple[str, ...]
    because: str
    choices: tuple[Choice, ...]


class Wait(msgspec.Struct, frozen=True, kw_only=True):
    """Do not start the gang now. `code` is the condition's reason; look again at `until_s` at the latest."""

    gang: Gang
    code: str
    because: str
    position: int
    choices: tuple[Choice, ...]
    helps: tuple[str, ...] = ()
    until_s: float | None = None


Decision = Place | Wait
