"""The variables every worker gets, and the choice of the framework's own."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from headrace.errors import Unsupported
from headrace.jobs.rendezvous import pytorch


class Spot(msgspec.Struct, frozen=True, kw_only=True):
    """One worker's place in its gang. `processes` is how many it starts itself: one a GPU, at least one."""

    job: str
    attempt: int
    pool: str
    role: str
    index: int
    rank: int
    size: int
    master: str
    port: int
    processes: int


FRAMEWORKS: dict[str, Callable[[Spot], dict[str, str]]] = {"none": lambda _: {}, "pytorch": pytorch.variables}


def variables(framework: str, spot: Spot) -> dict[str, str]:
    """Return the environment by which a worker finds the others. Raises Unsupported for frameworks not done yet."""
    if framework not in FRAMEWORKS:
        raise Unsupported(
            f"spec.framework {framework!r} has no rendezvous in this version.",
            hint=f"Use {' or '.join(sorted(FRAMEWORKS))}; HEADRACE_RANK, HEADRACE_WORLD_SIZE, MASTER_ADDR and MASTER_PORT are always set.",
        )
    return {**_own(spot), **pytorch.launcher_variables(spot), **FRAMEWORKS[framework](spot)}


def _own(spot: Spot) -> dict[str, str]:
    return {
        "HEADRACE_JOB": spot.job,
        "HEADRACE_ATTEMPT": str(spot.attempt),
        "HEADRACE_POOL": spot.pool,
        "HEADRACE_ROLE": spot.role,
        "HEADRACE_INDEX": str(spot.index),
        "HEADRACE_RANK": str(spot.rank),
        "HEADRACE_WORLD_SIZE": str(spot.size),
        "MASTER_ADDR": spot.master,
        "MASTER_PORT": str(spot.port),
    }
