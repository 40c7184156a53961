"""PyTorch: `torchrun` reads `PET_<FLAG>`; a bare script's `init_process_group("env://")` reads MASTER_*, RANK, WORLD_SIZE.

Source: pytorch `torch/distributed/run.py` (every flag has its `PET_` variable) and `rendezvous.py` (env://). torchrun sets
RANK and WORLD_SIZE anew for the processes it starts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headrace.jobs.rendezvous.contract import Spot


def launcher_variables(spot: Spot) -> dict[str, str]:
    """Return what only torchrun reads; harmless to every other program."""
    return {
        "PET_NNODES": str(spot.size),
        "PET_NODE_RANK": str(spot.rank),
        "PET_NPROC_PER_NODE": str(spot.processes),
        "PET_MASTER_ADDR": spot.master,
        "PET_MASTER_PORT": str(spot.port),
    }


def variables(spot: Spot) -> dict[str, str]:
    """Return what a script without a launcher needs: one process a worker."""
    return {"RANK": str(spot.rank), "WORLD_SIZE": str(spot.size), "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}
