"""Pool: a place where jobs run, with what it can hold, how pods get at data there, and what it costs."""

from __future__ import annotations

from typing import Literal

import msgspec

from headrace.spec.core.meta import Condition, ObjectMeta
from headrace.spec.core.scheduling import Toleration
from headrace.spec.view import Quantity, View

PoolKind = Literal["own", "elastic", "serverless"]
DataAccessMode = Literal["native", "broker", "platform", "privileged", "materialise"]
BillingStart = Literal["Scheduled", "Pull", "Start"]


class PoolNodes(View, frozen=True, kw_only=True):
    """Which nodes belong to the pool."""

    selector: dict[str, str] = {}
    """Labels the pool's nodes have; node-restriction.kubernetes.io/headrace-pool with the pool's name by default."""
    tolerations: tuple[Toleration, ...] = ()
    """Taints of the pool's nodes that its pods must put up with."""


class PoolGpu(View, frozen=True, kw_only=True):
    """How one GPU model is asked for in this pool."""

    resource: str = "nvidia.com/gpu"
    """The extended resource that counts it."""
    pod_annotations: dict[str, str] = {}
    """Annotations by which the provider picks the model."""
    pod_labels: dict[str, str] = {}
    """Labels by which the provider picks the model."""
    node_selector: dict[str, str] = {}
    """Labels of the nodes that have the model."""


class DataAccess(View, frozen=True, kw_only=True):
    """How pods get at data in this pool."""

    mode: DataAccessMode = "native"
    """native, broker, platform, privileged or materialise."""
    pod_labels: dict[str, str] = {}
    """Mode platform: labels the provider wants on pods that mount."""
    pod_annotations: dict[str, str] = {}
    """Mode platform: annotations the provider wants on pods that mount."""


class PoolImages(View, frozen=True, kw_only=True):
    """How image names change in this pool."""

    rewrite: dict[str, str] = {}
    """Prefix to prefix; the longest that fits is used."""


class Price(View, frozen=True, kw_only=True):
    """The pool's price card."""

    currency: str = "USD"
    """ISO 4217 code."""
    starts_at: BillingStart = "Start"
    """What begins a pod's bill: being Scheduled, the first Pull of an image, or the Start of its first container."""
    granularity: str = "1s"
    """Time is rounded up to a multiple of this."""
    minimum: str = "0s"
    """Every pod is billed for at least this long."""
    rates: dict[str, str] = {}
    """Resource (cpu, memory, gpu/MODEL, pod) to price, such as 0.0000077/s, 0.00000096/GiB-s, 2.00/h."""
    round_up: dict[str, Quantity] = {}
    """Resource to step: a pod's request is billed as the next multiple of it, where the provider sells fixed sizes."""


class Line(View, frozen=True, kw_only=True):
    """The line between the data and this pool."""

    bandwidth: str = ""
    """What it carries, such as 1Gbit/s; unknown by default."""
    price_per_gb: str = msgspec.field(default="0", name="pricePerGB")
    """Price of a gigabyte (10^9 bytes) over it, in the price card's currency."""
    trusted: bool = False
    """Whether storage traffic may cross it unencrypted."""


class PoolSpec(View, frozen=True, kw_only=True):
    """What the place is."""

    kind: PoolKind
    """own, elastic (autoscaled nodes with our driver) or serverless."""
    capacity: dict[str, Quantity] = {}
    """The most that may be rented at once: cpu, memory, gpu/MODEL. For own pools it is measured."""
    nodes: PoolNodes = PoolNodes()
    """Which nodes belong to it."""
    gpus: dict[str, PoolGpu] = {}
    """GPU model to how it is asked for."""
    data_access: DataAccess = DataAccess()
    """How pods get at data."""
    images: PoolImages = PoolImages()
    """How image names change."""
    start_timeout: str = "5m"
    """A gang that has not started by then is released, the pool backed off, the job queued again."""
    price: Price | None = None
    """What it costs; nothing by default."""
    line: Line = Line()
    """The line between the data and this pool."""


class PoolStatus(View, frozen=True, kw_only=True):
    """What the place is like now."""

    capacity: dict[str, Quantity] = {}
    """What it holds in all."""
    allocatable: dict[str, Quantity] = {}
    """What jobs may use of it."""
    nodes: int = 0
    """How many ready nodes it has."""
    conditions: tuple[Condition, ...] = ()
    """Ready, BackedOff, Unsupported."""
    observed_generation: int | None = None
    """The metadata.generation the status is about."""


class Pool(View, frozen=True, kw_only=True):
    """A place where jobs run."""

    metadata: ObjectMeta = ObjectMeta()
    spec: PoolSpec
    status: PoolStatus = PoolStatus()
