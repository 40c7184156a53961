"""What each pool would mean for a gang: when, for how much, how many bytes, and what stands in the way. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from msgspec.structs import replace

from headrace.scheduling import fit
from headrace.scheduling.model import Choice, Gang, PoolState, Running
from headrace.spec import amounts
from headrace.units import human_duration

_GB = Decimal(10**9)


def choices_for(gang: Gang, pools: Sequence[PoolState], running: Sequence[Running], now_s: float) -> tuple[Choice, ...]:
    """Return a choice for every pool, own pools first, refused ones too, so that a person sees why."""
    return tuple(_choice(gang, pool, running, now_s) for pool in pools if pool.name in gang.access)


def first_reason(choices: Sequence[Choice]) -> str:
    return next((c.reason for c in choices if c.reason), "No pool is there for it.")


def _choice(gang: Gang, pool: PoolState, running: Sequence[Running], now_s: float) -> Choice:
    access = gang.access[pool.name]
    never = Choice(
        pool=pool.name,
        currency=pool.price.currency,
        fits=False,
        starts_in_s=None,
        cost=None,
        bytes_to_move=None,
        reason=access.refusal,
        code=access.code,
    )
    if access.refusal:
        return never
    move = _bytes_to_move(gang, pool)
    priced = replace(never, cost=_cost(gang, pool, move), bytes_to_move=move)
    if not fit.fits_empty(gang, pool):
        return replace(priced, reason=_never(gang, pool))
    lacks = amounts.missing(fit.total(gang, pool.name), _free(pool))
    closed_s = max(0.0, pool.closed_until_s - now_s)
    reason = pool.why_closed if closed_s else _blocked(gang, pool)
    possible = replace(priced, fits=True, lacks=lacks, reason=reason)
    found = fit.earliest_start(gang, pool, running, now_s)
    if found is None:
        held = "used by pods that are none of Headrace's jobs" if lacks else "no node has room for a whole worker"
        return replace(possible, reason=reason or f"lacks {amounts.describe(lacks)}, {held}" if lacks else held)
    starts_s, holders = found
    if not reason and starts_s > 0:
        held = f", held by {', '.join(holders[:3])}" if holders else ""
        reason = f"lacks {amounts.describe(lacks)}{held}" if lacks else f"no node has room for a whole worker{held}"
    return replace(possible, starts_in_s=max(starts_s, closed_s), reason=reason, holders=holders)


def _free(pool: PoolState) -> dict[str, int]:
    return dict(pool.limit_free) if pool.limit is not None else amounts.add(*(node.free for node in pool.nodes))


def _blocked(gang: Gang, pool: PoolState) -> str:
    if pool.is_own:
        return ""
    not_ready = [need for need in gang.access[pool.name].data if not need.is_ready]
    if not_ready:
        return f"dataset {not_ready[0].name}: {not_ready[0].why_not_ready}"
    return "" if gang.terms.allowed else f"queue {gang.queue} does not allow bursting"


def _never(gang: Gang, pool: PoolState) -> str:
    whole = pool.limit if pool.limit is not None else amounts.add(*(node.total for node in pool.nodes))
    lacks = amounts.missing(fit.total(gang, pool.name), whole)
    if not pool.nodes and pool.limit is None:
        return "has no ready node"
    if not lacks:
        return "no node is large enough for one worker"
    needs = amounts.describe({name: fit.total(gang, pool.name)[name] for name in lacks})
    return f"needs {needs}, the pool holds {amounts.describe({name: whole.get(name, 0) for name in lacks})}"


def _bytes_to_move(gang: Gang, pool: PoolState) -> int | None:
    if pool.is_own:
        return 0
    needs = gang.access[pool.name].data
    if any(need.missing_bytes is None for need in needs):
        return None
    return sum((need.missing_bytes or 0) // max(1, need.readers) for need in needs)


def _cost(gang: Gang, pool: PoolState, bytes_to_move: int | None) -> Decimal:
    seconds = pool.price.billed_seconds(gang.expected_duration_s)
    line = pool.line_price_per_gb * Decimal(bytes_to_move or 0) / _GB
    return sum((pool.price.cost(shape, seconds) for shape in fit.pods(gang, pool.name)), line)


def sentence(choice: Choice) -> str:
    """Return a choice in words, for events: `cloud: now, 0.0210 USD`."""
    if not choice.fits:
        return f"{choice.pool}: never ({choice.reason})"
    start = (
        "unknown"
        if choice.starts_in_s is None
        else "now"
        if choice.starts_in_s < 1
        else f"in ~{human_duration(choice.starts_in_s)}"
    )
    price = f", {choice.cost:.4f} {choice.currency}" if choice.cost is not None else ""
    return f"{choice.pool}: {start}{price}"
