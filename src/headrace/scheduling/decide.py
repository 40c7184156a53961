"""`decide`: own first, and the cloud as soon as waiting costs more. Pure.

The rule is a *dollar-wait budget* (ski rental with an estimate; the reasoning is in docs/design.md, section 6). Let W be
what the queue says a second of waiting is worth, B what bursting this job would cost, and t the expected rest of the
wait. A job that does not fit at home bursts when W·t ≥ B (waiting from here costs more than renting), or when W times
what it has waited already reaches B (the estimate was wrong for long enough), or when it has waited `maxWait`.
Otherwise it waits, and is looked at again when the next of these comes true.

Order: rank, then time of enqueueing. A job that waits at home holds a reservation at its earliest start; later jobs may
pass it there only if they are expected to end before (EASY backfill), so nobody starves behind small jobs.
"""

from __future__ import annotations

from decimal import Decimal

from headrace.scheduling import fit
from headrace.scheduling.choices import choices_for, first_reason
from headrace.scheduling.model import Choice, Decision, Gang, Place, PoolState, Running, Snapshot, Wait
from headrace.spec import amounts
from headrace.units import human_duration

WAITING_FOR_OWN = "WaitingForOwnCapacity"
NOTHING_FITS = "LargerThanAnyPool"
NOT_ALLOWED = "NoPoolAllowed"
DATA_NOT_READY = "DataNotReady"
CLOUD_FULL = "CloudLimitReached"
BACKED_OFF = "BackedOff"


def order(gang: Gang) -> tuple[int, float, str]:
    """Sort key of the queue: rank, then who came first, then the name, so that the order is total."""
    return -gang.rank, gang.enqueued_s, gang.key


def decide(snapshot: Snapshot) -> tuple[Decision, ...]:
    """Return a decision for every waiting gang, in queue order. Placements take their room from later ones."""
    state = _State(snapshot)
    return tuple(state.decide(gang, position) for position, gang in enumerate(sorted(snapshot.waiting, key=order), 1))


class _State:
    """The pools as they are while one `decide` places gang after gang."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.now_s = snapshot.now_s
        self.pools = {pool.name: pool for pool in sorted(snapshot.pools, key=lambda p: (not p.is_own, p.order, p.name))}
        self.running = list(snapshot.running)
        self.reserved_s: dict[str, float] = {}  # own pool → seconds until the first waiting gang's reservation

    def decide(self, gang: Gang, position: int) -> Decision:
        choices = choices_for(gang, tuple(self.pools.values()), self.running, self.now_s)
        if gang.not_before_s > self.now_s:
            pause = human_duration(gang.not_before_s - self.now_s)
            because = f"It was started before without success and is tried again in {pause}."
            return Wait(
                gang=gang,
                code=BACKED_OFF,
                because=because,
                position=position,
                choices=choices,
                until_s=gang.not_before_s,
            )
        for pool in self._open(gang, own=True):
            nodes = fit.fits_now(gang, pool)
            if nodes is not None and not self._delays_reservation(gang, pool):
                because = f"Own pool {pool.name} has room for it now."
                return self._place(gang, pool, nodes, because, choices)
        own = self._own_wait(choices)
        burst = self._burst(gang, choices, own)
        if isinstance(burst, tuple):
            pool, nodes, because = burst
            return self._place(gang, pool, nodes, because, choices)
        self._reserve(own)
        return self._wait(gang, position, choices, own, burst)

    def _open(self, gang: Gang, *, own: bool) -> list[PoolState]:
        """Pools that may take the gang at once, as far as consent, data and back-off go."""
        return [
            pool
            for pool in self.pools.values()
            if pool.is_own == own
            and pool.closed_until_s <= self.now_s
            and pool.name in gang.access
            and not gang.access[pool.name].refusal
            and (own or all(need.is_ready for need in gang.access[pool.name].data))
        ]

    def _delays_reservation(self, gang: Gang, pool: PoolState) -> bool:
        reserved_s = self.reserved_s.get(pool.name)
        return reserved_s is not None and gang.expected_duration_s > reserved_s

    def _own_wait(self, choices: tuple[Choice, ...]) -> Choice | None:
        """The own pool where the gang would start first, or None when none can hold it or nobody knows when."""
        own = [c for c in choices if self.pools[c.pool].is_own and c.fits and c.starts_in_s is not None]
        return min(own, key=lambda c: (c.starts_in_s or 0.0, c.pool), default=None)

    def _reserve(self, own: Choice | None) -> None:
        if own is not None and own.starts_in_s is not None:
            self.reserved_s.setdefault(own.pool, own.starts_in_s)

    def _place(
        self, gang: Gang, pool: PoolState, nodes: tuple[str, ...], because: str, choices: tuple[Choice, ...]
    ) -> Place:
        self.pools[pool.name] = fit.taken(pool, gang, nodes)
        self.running.append(
            Running(
                key=gang.key,
                pool=pool.name,
                by_node=fit.by_node(gang, pool, nodes),
                started_s=self.now_s,
                expected_duration_s=gang.expected_duration_s,
            )
        )
        return Place(gang=gang, pool=pool.name, nodes=nodes, because=because, choices=choices)

    def _burst(
        self, gang: Gang, choices: tuple[Choice, ...], own: Choice | None
    ) -> tuple[PoolState, tuple[str, ...], str] | float | None:
        """Return where to burst and why; or when bursting should be thought of again; or None when it cannot help."""
        if not gang.terms.allowed:
            return None
        by_name = {choice.pool: choice for choice in choices}
        candidates = [
            (by_name[pool.name].cost or Decimal(0), pool, nodes)
            for pool in self._open(gang, own=False)
            if (nodes := fit.fits_now(gang, pool)) is not None and not self._is_too_dear(gang, pool)
        ]
        if not candidates:
            return None
        cost, pool, nodes = min(candidates, key=lambda c: (c[0], c[1].name))
        currency = pool.price.currency
        if not any(choice.fits and self.pools[choice.pool].is_own for choice in choices):
            return pool, nodes, f"No own pool can ever hold it; {pool.name} costs {cost:.4f} {currency}."
        wait_price = gang.terms.wait_price_per_s
        waited_s = self.now_s - gang.enqueued_s
        left_s = own.starts_in_s if own is not None and own.starts_in_s is not None else 0.0
        worth = wait_price * Decimal(left_s)
        if own is not None and wait_price and worth >= cost:
            because = (
                f"Waiting ~{human_duration(left_s)} for {own.pool} would cost {worth:.4f} {currency}; "
                f"{pool.name} costs {cost:.4f} {currency}."
            )
            return pool, nodes, because
        limits = [float(cost / wait_price)] if wait_price else []
        limits += [gang.terms.max_wait_s] if gang.terms.max_wait_s is not None else []
        if limits and waited_s >= min(limits):
            because = (
                f"It has waited {human_duration(waited_s)}, as long as {cost:.4f} {currency} for {pool.name} are worth."
            )
            if gang.terms.max_wait_s is not None and waited_s >= gang.terms.max_wait_s:
                because = f"It has waited {human_duration(waited_s)}, the queue's maxWait; {pool.name} costs {cost:.4f} {currency}."
            return pool, nodes, because
        return gang.enqueued_s + min(limits) if limits else None

    def _is_too_dear(self, gang: Gang, pool: PoolState) -> bool:
        limit = gang.terms.max_price_per_s
        if limit is None:
            return False
        shapes = fit.pods(gang, pool.name)
        gpus = sum(amount for shape in shapes for name, amount in shape.items() if name.startswith("gpu/"))
        price = sum((pool.price.per_second(shape) for shape in shapes), Decimal(0))
        return price / max(1, gpus) > limit

    def _wait(
        self, gang: Gang, position: int, choices: tuple[Choice, ...], own: Choice | None, look_again_s: float | None
    ) -> Wait:
        code, because, helps = self._why(gang, choices, own, look_again_s)
        return Wait(
            gang=gang, code=code, because=because, position=position, choices=choices, helps=helps, until_s=look_again_s
        )

    def _why(
        self, gang: Gang, choices: tuple[Choice, ...], own: Choice | None, look_again_s: float | None
    ) -> tuple[str, str, tuple[str, ...]]:
        if not any(choice.fits for choice in choices):
            return self._why_nowhere(gang, choices)
        if own is not None:
            lacks = amounts.describe(own.lacks)
            holders = ", ".join(own.holders[:3]) or "others"
            because = (
                f"{own.pool} lacks {lacks} for it, used by {holders}; free in ~{human_duration(own.starts_in_s or 0)}."
            )
            if look_again_s is not None:
                because += (
                    f" It bursts when waiting has cost more than that, in {human_duration(look_again_s - self.now_s)}."
                )
            return WAITING_FOR_OWN, because, self._helps(gang, choices)
        at_home = [c for c in choices if c.fits and self.pools[c.pool].is_own]
        if at_home:
            return WAITING_FOR_OWN, f"{at_home[0].pool}: {at_home[0].reason}.", self._helps(gang, choices)
        elsewhere = [c for c in choices if c.fits and not self.pools[c.pool].is_own]
        waiting_data = [n for c in elsewhere for n in gang.access[c.pool].data if not n.is_ready]
        if not gang.terms.allowed:
            return (
                NOT_ALLOWED,
                f"Only {', '.join(c.pool for c in elsewhere)} can hold it, and its queue does not allow bursting.",
                ("Set spec.burst.allow in the queue.",),
            )
        if waiting_data:
            need = waiting_data[0]
            return DATA_NOT_READY, f"Dataset {need.name} is not ready: {need.why_not_ready}", ()
        return (
            CLOUD_FULL,
            first_reason(tuple(elsewhere)),
            ("Raise the pool's capacity, or wait for jobs there to end.",),
        )

    def _why_nowhere(self, gang: Gang, choices: tuple[Choice, ...]) -> tuple[str, str, tuple[str, ...]]:
        """Say why no pool can ever take it. What keeps its data away comes first: that can be mended."""
        coded = [choice for choice in choices if choice.code]
        allowed = [choice for choice in choices if not gang.access[choice.pool].refusal]
        reasons = {choice.reason for choice in choices}
        lacking = "; ".join(f"{choice.pool}: {choice.reason.rstrip('.')}" for choice in (*coded, *allowed))
        if not allowed:
            if coded and len(reasons) == 1:  # the same everywhere: it is not about pools
                return coded[0].code, f"{reasons.pop().rstrip('.')}.", ()
            because = f"No pool may take it: {lacking}." if coded else first_reason(choices)
            helps = "Allow a pool: see spec.pools, the claims' headrace.io/pools and the queue."
            return coded[0].code if coded else NOT_ALLOWED, because, (helps,)
        helps = "Ask for fewer workers or smaller ones."
        return coded[0].code if coded else NOTHING_FITS, f"No pool can ever hold it: {lacking}.", (helps,)

    def _helps(self, gang: Gang, choices: tuple[Choice, ...]) -> tuple[str, ...]:
        cloud = [c for c in choices if c.fits and not self.pools[c.pool].is_own]
        if not cloud or gang.terms.allowed:
            return ()
        return (f"Allow bursting in queue {gang.queue}: {cloud[0].pool} could start it now.",)
