"""At home or in a rented pool: for a pod that may come to both, because it tolerates a rented pool's own taint. Pure.

Which it is must be known before the pod exists (docs/design.md, section 5, "When injection happens"). Home goes first,
as for jobs: where there is room now, a pool is not rented. Requests are looked at and nothing else that a scheduler knows
(spreading, pods' affinity, ports).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from headrace.pools.capacity import NodeRoom, Room
from headrace.spec import amounts
from headrace.spec.amounts import Amounts

_SHOWN = 3


@dataclass(frozen=True, kw_only=True)
class Offer:
    """What a rented pool would mean for the pod.

    Args:
        needs: of the pod with its storage clients, by the pool's names.
        price_per_s: of that.
        against: why its data cannot be had there, as a sentence; empty where it can.
    """

    pool: str
    needs: Amounts
    room: Room
    price_per_s: Decimal = Decimal(0)
    against: str = ""

    @property
    def fits_now(self) -> bool:
        return not self.against and any(
            _within(self.needs, node.free, self.room, self.room.free) for node in self.room.nodes
        )

    @property
    def fits_ever(self) -> bool:
        return not self.against and any(
            _within(self.needs, node.total, self.room, self.room.total) for node in self.room.nodes
        )


@dataclass(frozen=True)
class Choice:
    """Where the pod goes.

    Args:
        pool: the rented pool's name; empty for nodes with the storage's own driver.
        why: a sentence for whoever reads the pod.
        has_room: it need not wait there.
    """

    pool: str
    why: str
    has_room: bool


def choose(needs: Amounts, home: Sequence[NodeRoom], offers: Sequence[Offer]) -> Choice:
    """Return the choice for one pod.

    Where there is room nowhere, it waits at home if it could ever run there: waiting there costs nothing.

    Args:
        needs: of the pod as it is, by Kubernetes' names.
        home: the nodes with the storage's own driver that it may come to.
        offers: the rented pools that it may come to.
    """
    fitting = next((node for node in home if amounts.fits(needs, node.free)), None)
    if fitting is not None:
        why = f"Stays on nodes with the claim's driver: {fitting.name} has room for {_told(needs)}."
        return Choice("", why, has_room=True)
    full = f"no node with the claim's driver {_full(needs, home)}"
    ready = min((o for o in offers if o.fits_now), key=lambda o: (o.price_per_s, o.pool), default=None)
    if ready is not None:
        return Choice(ready.pool, f"Goes to pool {ready.pool}: {full}. It tolerates the pool's taint.", has_room=True)
    waits_at_home = any(amounts.fits(needs, node.total) for node in home)
    later = min((o for o in offers if o.fits_ever), key=lambda o: (o.price_per_s, o.pool), default=None)
    if later is not None and not waits_at_home:
        why = f"Waits for room in pool {later.pool}: {full}. It tolerates the pool's taint."
        return Choice(later.pool, why, has_room=False)
    others = "; ".join(_why_not(offer) for offer in offers)
    why = f"Waits for a node with the claim's driver: none {_full(needs, home)}; {others}."
    return Choice("", why, has_room=False)


def _within(needs: Amounts, node: Amounts, room: Room, allowed: Amounts) -> bool:
    """A provider's node says what one pod may have, and the pool's limit what may be rented at once."""
    limited = {name: amount for name, amount in needs.items() if room.limit is not None and name in room.limit}
    return amounts.fits(needs, node) and amounts.fits(limited, allowed)


def _full(needs: Amounts, home: Sequence[NodeRoom]) -> str:
    """Return what no node at home has, as a predicate."""
    if not home:
        return "is there that it may come to"
    said = [f"{node.name} {_lack(needs, node)}" for node in home[:_SHOWN]]
    more = f" and {len(home) - _SHOWN} more" if len(home) > _SHOWN else ""
    return f"has room for {_told(needs)} ({', '.join(said)}{more})"


def _lack(needs: Amounts, node: NodeRoom) -> str:
    if not node.free:
        return "takes no new pods"
    return f"lacks {amounts.describe(amounts.missing(needs, node.free))}"


def _why_not(offer: Offer) -> str:
    if offer.against:
        return f"and it cannot go to pool {offer.pool}: {offer.against.rstrip('.')}"
    return f"and pool {offer.pool} has no room for {_told(offer.needs)} either"


def _told(needs: Amounts) -> str:
    asked = {name: amount for name, amount in needs.items() if amount and name != "pods"}
    return amounts.describe(asked) if asked else "a pod that requests nothing"
