"""Queue: who may use how much, and when it is worth renting."""

from __future__ import annotations

from typing import Literal

from headrace.spec.core.meta import Condition, ObjectMeta
from headrace.spec.view import Quantity, View


class Quota(View, frozen=True, kw_only=True):
    """How much the queue's jobs may use at once, by priority: cpu, memory, gpu/MODEL."""

    guaranteed: dict[str, Quantity] = {}
    """What jobs of priority guaranteed can always have."""
    preferred: dict[str, Quantity] = {}
    """What jobs of priority preferred may have in all, borrowed from the cohort."""


class Burst(View, frozen=True, kw_only=True):
    """When jobs may go to pools that cost money."""

    allow: bool = True
    """Whether they may at all."""
    wait_price: str = "1.00/h"
    """What an hour of waiting is worth to the queue, for one job."""
    max_wait: str = ""
    """Burst after this wait whatever it costs, within maxPrice; never by default."""
    max_price: str = ""
    """Never pay more than this, such as 4.00/gpu-h or 10.00/h a job; no limit by default."""


class Budget(View, frozen=True, kw_only=True):
    """What the queue may spend."""

    amount: str
    """How much in a period, in the pools' currency."""
    period: Literal["day", "week", "month"] = "month"
    """How long a period is; it begins at midnight UTC."""
    on_exhausted: Literal["ownOnly", "stop", "warn"] = "ownOnly"
    """ownOnly: no more bursting. stop: nothing more starts. warn: only say so."""


class QueueSpec(View, frozen=True, kw_only=True):
    """Who may use how much."""

    namespaces: tuple[str, ...] = ()
    """Namespaces whose jobs may use the queue; all by default."""
    cohort: str = ""
    """Queues of one cohort lend each other what they do not use."""
    quota: Quota = Quota()
    """How much at once; no limit by default."""
    burst: Burst = Burst()
    """When to rent."""
    budget: Budget | None = None
    """What may be spent; no limit by default."""
    expected_duration: str = "1h"
    """How long a job of unknown length is taken to run."""


class QueueStatus(View, frozen=True, kw_only=True):
    """What is known of a queue. Length and usage are computed on read."""

    conditions: tuple[Condition, ...] = ()
    """Ready, BudgetExhausted, Unsupported."""
    observed_generation: int | None = None
    """The metadata.generation the status is about."""


class Queue(View, frozen=True, kw_only=True):
    """Who may use how much, and when it is worth renting."""

    metadata: ObjectMeta = ObjectMeta()
    spec: QueueSpec = QueueSpec()
    status: QueueStatus = QueueStatus()
