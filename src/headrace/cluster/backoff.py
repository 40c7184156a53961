"""How long to wait before trying again: exponential, capped, with jitter where many could wake at once."""

from __future__ import annotations

import random

import msgspec


class Backoff(msgspec.Struct, frozen=True, kw_only=True):
    """A delay that doubles with every failure in a row.

    Args:
        first_s: delay after the first failure.
        cap_s: the longest delay.
        jitter: the share of a delay that chance may take off, 0 for none; spreads clients that failed together.
    """

    first_s: float
    cap_s: float
    jitter: float = 0.0

    def delay_s(self, failures: int) -> float:
        """Return the delay after this many failures in a row, counted from 1."""
        doubled: float = min(self.cap_s, self.first_s * 2.0 ** min(failures - 1, 62))
        return doubled * random.uniform(1 - self.jitter, 1)  # noqa: S311 nothing secret hangs on it
