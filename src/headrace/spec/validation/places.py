"""Pool and Queue: amounts, prices and the names they hang on."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation

from headrace.ids import is_dns_label
from headrace.spec.headrace.pool import Line, Pool, Price
from headrace.spec.headrace.queue import Queue
from headrace.spec.validation.metadata import check_labels, check_subdomain
from headrace.spec.validation.problem import (
    Problem,
    Problems,
    check,
    check_duration,
    check_quantity,
    check_unique,
    member,
)
from headrace.spec.view import Quantity
from headrace.units import parse_bandwidth_bytes_per_s, parse_rate_per_s

_RESOURCE = re.compile(
    r"cpu|memory|ephemeral-storage|pods|gpu(/[A-Za-z0-9][A-Za-z0-9_.-]*)?|[a-z0-9.-]+\.[a-z]+/[A-Za-z0-9_.-]+"
)
_RATE_UNITS: Mapping[str, tuple[str, ...]] = {
    "memory": ("GiB",),
    "ephemeral-storage": ("GiB",),
    "cpu": ("", "cpu", "core"),
    "pod": ("", "pod"),
}
_GPU_UNITS = ("", "gpu")


def check_pool(pool: Pool) -> Problems:
    """Report what is wrong with a Pool."""
    spec = pool.spec
    yield from _amounts("spec.capacity", spec.capacity)
    if spec.kind != "own" and not spec.capacity:
        yield Problem(
            "spec.capacity", f"is required for a pool of kind {spec.kind}: the most that may be rented at once"
        )
    yield from check_labels("spec.nodes.selector", spec.nodes.selector)
    for model, gpu in spec.gpus.items():
        where = member("spec.gpus", model)
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", model):
            yield Problem(where, f"{model!r} is no GPU model; write it like A100")
        if "/" not in gpu.resource:
            yield Problem(f"{where}.resource", f"is {gpu.resource!r}; write it like nvidia.com/gpu")
        yield from check_labels(f"{where}.nodeSelector", gpu.node_selector)
    if spec.data_access.mode == "platform" and spec.kind != "serverless":
        yield Problem(
            "spec.dataAccess.mode", "is platform, which only a serverless pool can have; use native or broker"
        )
    for old, new in spec.images.rewrite.items():
        if not old or not new:
            yield Problem("spec.images.rewrite", "must not hold an empty prefix")
    yield from check_duration("spec.startTimeout", spec.start_timeout)
    if spec.price is not None:
        yield from _price("spec.price", spec.price)
    yield from _line("spec.line", spec.line)


def _amounts(path: str, amounts: Mapping[str, Quantity]) -> Problems:
    for name, amount in amounts.items():
        where = member(path, name) if "/" not in name else f"{path}[{name}]"
        if not _RESOURCE.fullmatch(name):
            yield Problem(where, f"{name!r} is no resource; write cpu, memory, gpu/A100 or one like nvidia.com/gpu")
        yield from check_quantity(where, amount)


def _price(path: str, price: Price) -> Problems:
    if not re.fullmatch(r"[A-Z]{3}", price.currency):
        yield Problem(f"{path}.currency", f"is {price.currency!r}; it must be a code of three letters such as USD")
    yield from check_duration(f"{path}.granularity", price.granularity)
    yield from check_duration(f"{path}.minimum", price.minimum, zero=True)
    for name, rate in price.rates.items():
        where = member(f"{path}.rates", name)
        if name != "pod" and not _RESOURCE.fullmatch(name):
            yield Problem(where, f"{name!r} is no resource; write cpu, memory, gpu/A100 or pod")
            continue
        yield from _rate(where, rate, _RATE_UNITS.get(name, _GPU_UNITS if name.startswith("gpu") else ()))
    yield from _amounts(f"{path}.roundUp", price.round_up)


def _rate(path: str, rate: str, units: tuple[str, ...]) -> Problems:
    """Report a price that cannot be read, or one for another unit than the resource is counted in."""
    try:
        parse_rate_per_s(rate)
    except ValueError as error:
        yield Problem(path, str(error))
        return
    unit = rate.partition("/")[2].rpartition("-")[0]
    if units and unit not in units:
        wanted = " or ".join(f"{u}-h" if u else "h" for u in units)
        yield Problem(path, f"is {rate!r}, a price for another unit; write it per {wanted}, such as 0.01/{units[-1]}-h")


def _line(path: str, line: Line) -> Problems:
    if line.bandwidth:
        yield from check(f"{path}.bandwidth", line.bandwidth, parse_bandwidth_bytes_per_s)
    yield from _money(f"{path}.pricePerGB", line.price_per_gb)


def _money(path: str, amount: str) -> Problems:
    try:
        value = Decimal(amount)
    except InvalidOperation:
        value = Decimal("NaN")
    if not value.is_finite() or value < 0:
        yield Problem(path, f"is {amount!r}; it must be an amount of money such as 0.05")


def check_queue(queue: Queue) -> Problems:
    """Report what is wrong with a Queue."""
    spec = queue.spec
    yield from check_unique("spec.namespaces", spec.namespaces)
    for index, namespace in enumerate(spec.namespaces):
        if not is_dns_label(namespace):
            yield Problem(f"spec.namespaces[{index}]", f"is {namespace!r}; it must be a namespace's name")
    if spec.cohort:
        yield from check_subdomain("spec.cohort", spec.cohort, what="a cohort's name")
    yield from _amounts("spec.quota.guaranteed", spec.quota.guaranteed)
    yield from _amounts("spec.quota.preferred", spec.quota.preferred)
    yield from _rate("spec.burst.waitPrice", spec.burst.wait_price, ("", "job"))
    yield from check_duration("spec.burst.maxWait", spec.burst.max_wait)
    if spec.burst.max_price:
        yield from _rate("spec.burst.maxPrice", spec.burst.max_price, ("", "job", "gpu"))
    if spec.budget is not None:
        yield from _money("spec.budget.amount", spec.budget.amount)
    yield from check_duration("spec.expectedDuration", spec.expected_duration)
