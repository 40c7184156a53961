"""The live loop: looks again whenever something changed, or when a decision's time has come, and has it carried out.

It never polls: it sleeps until it is woken or until the earliest `Wait.until_s`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import anyio

from headrace.clock import Clock
from headrace.errors import HeadraceError
from headrace.scheduling.decide import decide
from headrace.scheduling.model import Decision, Place, Snapshot, Wait
from headrace.telemetry import logger

PLACED = "gang.placed"
PLACING_FAILED = "gang.placing_failed"

# Changes come in bursts (a job's creation, its defaults, its status); one look for all of them is enough.
_SETTLE_S = 0.005
_LONGEST_SLEEP_S = 300.0
_RETRY_S = 1.0


class Workloads(Protocol):
    """Where gangs come from and decisions go to."""

    def snapshot(self, now_s: float) -> Snapshot:
        """Return everything `decide` may know, from caches only."""
        ...

    async def place(self, decision: Place) -> None:
        """Start the gang. Idempotent and fenced: a gang that changed meanwhile is left alone."""
        ...

    async def hold(self, decision: Wait) -> None:
        """Note why the gang waits, if that changed."""
        ...


class Loop:
    """One scheduler. Only the replica that holds the lease runs one."""

    def __init__(self, workloads: Workloads, clock: Clock) -> None:
        self._workloads = workloads
        self._clock = clock
        self._changed = anyio.Event()
        self._log = logger()

    def wake(self) -> None:
        """Have the loop look again soon. Cheap; call it for every change that could matter."""
        self._changed.set()

    async def run(self) -> None:
        """Decide and carry out, until cancelled."""
        while True:
            self._changed = anyio.Event()
            sleep_s = await self.once()
            with anyio.move_on_after(sleep_s):
                await self._changed.wait()
                await anyio.sleep(_SETTLE_S)

    async def once(self) -> float:
        """Look once; return seconds until it is time to look again without being woken."""
        now_s = self._clock.now().timestamp()
        decisions = decide(self._workloads.snapshot(now_s))
        failed = False
        for decision in decisions:
            failed |= not await self._carry_out(decision)
        return _RETRY_S if failed else _sleep_s(decisions, now_s)

    async def _carry_out(self, decision: Decision) -> bool:
        try:
            if isinstance(decision, Place):
                await self._workloads.place(decision)
                self._log.info(PLACED, gang=decision.gang.key, pool=decision.pool, because=decision.because)
            else:
                await self._workloads.hold(decision)
        except HeadraceError as error:
            self._log.warning(PLACING_FAILED, gang=decision.gang.key, error=str(error))
            return False
        return True


def _sleep_s(decisions: Sequence[Decision], now_s: float) -> float:
    times = [d.until_s - now_s for d in decisions if isinstance(d, Wait) and d.until_s is not None]
    return max(0.01, min([*times, _LONGEST_SLEEP_S]))
