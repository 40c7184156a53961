"""Startup, liveness and readiness probes: thresholds are pure, the asking is one task a probe.

A probe's task lives exactly as long as the attempt it asks about. Startup comes first; liveness and readiness begin
when it has succeeded. A startup or readiness probe that fails at first is asked again sooner than its period says,
a few times: a container that comes up in 0.2 s need not wait for the second look after 10 s. Those early failures are
not counted.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

import anyio

from headrace.errors import Unavailable
from headrace.node.handlers import Verdict
from headrace.spec.kind import Json

ProbeKind = Literal["startupProbe", "livenessProbe", "readinessProbe"]
Outcome = Literal["success", "failure", "undecided"]

_EAGER_S = (0.05, 0.1, 0.2, 0.4)


@dataclass(frozen=True)
class Settings:
    """A probe's numbers with Kubernetes' defaults."""

    initial_delay_s: float
    period_s: float
    timeout_s: float
    success_threshold: int
    failure_threshold: int

    @staticmethod
    def of(probe: Json) -> Settings:
        return Settings(
            initial_delay_s=float(probe.get("initialDelaySeconds") or 0),
            period_s=float(probe.get("periodSeconds") or 10),
            timeout_s=float(probe.get("timeoutSeconds") or 1),
            success_threshold=int(probe.get("successThreshold") or 1),
            failure_threshold=int(probe.get("failureThreshold") or 3),
        )


class Counter:
    """Turns single verdicts into a state that changes only when a threshold is reached. Pure."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._last_ok: bool | None = None
        self._run = 0

    def count(self, ok: bool) -> Outcome:
        """Count one verdict; `undecided` until as many of a kind came in a row as the threshold says."""
        self._run = self._run + 1 if ok == self._last_ok else 1
        self._last_ok = ok
        needed = self._settings.success_threshold if ok else self._settings.failure_threshold
        if self._run < needed:
            return "undecided"
        return "success" if ok else "failure"


async def watch(
    kind: ProbeKind,
    settings: Settings,
    ask: Callable[[], Awaitable[Verdict]],
    told: Callable[[Outcome, Verdict], bool],
    *,
    ran_for_s: float,
) -> None:
    """Ask until `told` returns False, or until cancelled.

    Args:
        told: hears every decided outcome and every single failure (as `undecided`); returns whether to go on.
        ran_for_s: how long the attempt has run already, which the initial delay counts from.
    """
    counter = Counter(settings)
    await anyio.sleep(max(0.0, settings.initial_delay_s - ran_for_s))
    eager = list(_EAGER_S) if kind != "livenessProbe" and settings.initial_delay_s == 0 else []
    while True:
        began = anyio.current_time()
        try:
            verdict = await ask()
        except Unavailable:
            await anyio.sleep(settings.period_s)
            continue
        if eager and not verdict.ok and eager[0] < settings.period_s:
            await anyio.sleep(eager.pop(0))
            continue
        outcome = counter.count(verdict.ok)
        if (outcome != "undecided" or not verdict.ok) and not told(outcome, verdict):
            return
        await anyio.sleep(max(0.0, settings.period_s - (anyio.current_time() - began)))
