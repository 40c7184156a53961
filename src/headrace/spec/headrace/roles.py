"""What a TrainJob's workers really are, once roles, overrides and defaults are put together. Pure.

One place, because the scheduler counts them, `jobs` makes them and the plan shown before a run must say the same.
"""

from __future__ import annotations

import re
from decimal import Decimal

import msgspec

from headrace.spec.headrace.trainjob import SecretKey, TrainJobSpec, WorkerResources
from headrace.units import parse_quantity

DEFAULT_ROLE = "worker"
DEFAULT_CPU = Decimal(1)
DEFAULT_MEMORY_BYTES = Decimal(2**30)
ANY_GPU = ""
"""The model of GPUs asked for by number only."""

_GPU = re.compile(r"(?:(?P<model>[A-Za-z0-9][A-Za-z0-9_.-]*):)?(?P<count>\d+)|(?P<bare>[A-Za-z][A-Za-z0-9_.-]*)")


class ResolvedRole(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of worker, complete.

    Args:
        cpu: cores; memory_bytes and shm_bytes: bytes, shm_bytes 0 where /dev/shm is left as it is.
        gpu_model: empty for any model; gpus: how many one worker has.
        env: name to text or SecretKey, the job's and the role's together.
    """

    name: str
    replicas: int
    command: tuple[str, ...]
    image: str
    cpu: Decimal
    memory_bytes: Decimal
    gpus: int
    gpu_model: str
    shm_bytes: Decimal
    env: dict[str, str | SecretKey]


def parse_gpu(text: str | float | None) -> tuple[str, int]:
    """Return `(model, count)` of `A100:2`, `A100` or `2`; raises ValueError with a sentence."""
    if text is None:
        return ANY_GPU, 0
    match = _GPU.fullmatch(str(text).strip())
    if match is None:
        raise ValueError(f"{text!r} is not a number of GPUs; write 1, A100 or A100:2")
    if match["bare"]:
        return match["bare"], 1
    return match["model"] or ANY_GPU, int(match["count"])


def resolved_roles(spec: TrainJobSpec) -> tuple[ResolvedRole, ...]:
    """Return the job's roles in the order written; a job without roles has one, `worker`.

    The spec must have passed validation; raises ValueError for amounts that are none.
    """
    if not spec.roles:
        return (_resolve(spec, DEFAULT_ROLE, spec.workers or 1, (), "", None, {}),)
    return tuple(
        _resolve(spec, name, role.replicas, role.command, role.image, role.resources, role.env)
        for name, role in spec.roles.items()
    )


def _resolve(
    spec: TrainJobSpec,
    name: str,
    replicas: int,
    command: tuple[str, ...],
    image: str,
    own: WorkerResources | None,
    env: dict[str, str | int | float | SecretKey],
) -> ResolvedRole:
    own = own or WorkerResources()
    cpu, memory, shm = (getattr(own, f) or getattr(spec.resources, f) for f in ("cpu", "memory", "shm"))
    model, gpus = parse_gpu(spec.resources.gpu if own.gpu is None else own.gpu)
    return ResolvedRole(
        name=name,
        replicas=replicas,
        command=command or spec.command,
        image=image or spec.image,
        cpu=parse_quantity(cpu) if cpu else DEFAULT_CPU,
        memory_bytes=parse_quantity(memory) if memory else DEFAULT_MEMORY_BYTES,
        gpus=gpus,
        gpu_model=model if gpus else ANY_GPU,
        shm_bytes=parse_quantity(shm) if shm else Decimal(0),
        env={key: value if isinstance(value, SecretKey) else str(value) for key, value in (spec.env | env).items()},
    )
