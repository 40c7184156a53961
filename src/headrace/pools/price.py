"""Price cards: what a shape costs in a pool, exactly, and which seconds count.

Providers differ in the event that starts the clock (image pull or container start), in granularity and in a minimum
(docs of Alibaba ECI, AWS Fargate, Google Cloud Run). A card holds all of them, in decimals, never floats.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Literal

import msgspec

from headrace.spec.amounts import Amounts, in_whole, parse
from headrace.spec.kind import Json
from headrace.units import GIB, parse_duration_s, parse_rate_per_s

StartEvent = Literal["Scheduled", "Pull", "Start"]
MONEY_PLACES = Decimal("0.000000000001")
"""Money is kept to 10^-12 of the currency: a millicore-second at a millionth of a cent still counts."""


class PriceCard(msgspec.Struct, frozen=True, kw_only=True):
    """Rates are in currency per second and unit: a core, a GiB of memory, a piece of anything else, `pod` for a pod.

    `round_up` holds the steps in which a provider sells: a pod's request is billed as the next multiple.
    """

    currency: str = "USD"
    starts_at: StartEvent = "Start"
    granularity_s: int = 1
    minimum_s: int = 0
    rates: Mapping[str, Decimal] = {}
    round_up: Mapping[str, int] = {}

    def billed_seconds(self, seconds: float) -> int:
        """Return the seconds that are billed for `seconds` of one container group: rounded up, at least the minimum."""
        if seconds <= 0:
            return 0
        steps = math.ceil(round(seconds / self.granularity_s, 9))
        return max(self.minimum_s, steps * self.granularity_s)

    def per_second(self, shape: Amounts) -> Decimal:
        """Return what one second of one pod of `shape` costs."""
        total = Decimal(0)
        for name, rate in self.rates.items():
            amount = 1 if name == "pod" else shape.get(name, 0)
            step = self.round_up.get(name, 0)
            quantity = in_whole(name, -(-amount // step) * step if step else amount)
            total += rate * (quantity / GIB if name in {"memory", "ephemeral-storage"} else quantity)
        return total

    def cost(self, shape: Amounts, billed_seconds: int) -> Decimal:
        """Return the price of `billed_seconds` (from `billed_seconds()`) of `shape`, to 10^-12."""
        return (self.per_second(shape) * billed_seconds).quantize(MONEY_PLACES, rounding=ROUND_HALF_EVEN)


FREE = PriceCard()


def card(pool_spec: Json) -> PriceCard:
    """Return the price card of a Pool's spec; a pool without prices costs nothing. The spec has been validated."""
    price = pool_spec.get("price")
    if not price:
        return FREE
    return PriceCard(
        currency=price.get("currency", "USD"),
        starts_at=price.get("startsAt", "Start"),
        granularity_s=max(1, round(parse_duration_s(price.get("granularity", "1s")))),
        minimum_s=round(parse_duration_s(price.get("minimum", "0s"))),
        rates={name: parse_rate_per_s(rate) for name, rate in (price.get("rates") or {}).items()},
        round_up=parse(price.get("roundUp") or {}),
    )


def to_json(price: PriceCard) -> Json:
    """Return the card as JSON with exact decimals as text, for keeping beside what was priced with it."""
    return {
        "currency": price.currency,
        "startsAt": price.starts_at,
        "granularity": price.granularity_s,
        "minimum": price.minimum_s,
        "rates": {name: format(rate.normalize(), "f") for name, rate in sorted(price.rates.items())},
        "roundUp": dict(sorted(price.round_up.items())),
    }


def from_json(stored: Json) -> PriceCard:
    """Return the card that `to_json` wrote."""
    return PriceCard(
        currency=stored["currency"],
        starts_at=stored["startsAt"],
        granularity_s=stored["granularity"],
        minimum_s=stored["minimum"],
        rates={name: Decimal(rate) for name, rate in stored["rates"].items()},
        round_up=stored["roundUp"],
    )
