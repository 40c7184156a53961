"""A TrainJob as a gang: its roles, what a worker of each takes, and the names of its pods. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from headrace.ids import dns_1035_name
from headrace.spec import amounts
from headrace.spec.headrace.roles import ResolvedRole, resolved_roles
from headrace.spec.kind import Doc

ANY_MODEL = "any"
_FIRST = ("chief", "master", "launcher")  # their first worker is rank 0, by every framework's convention


class Member(msgspec.Struct, frozen=True):
    """One worker of a gang. `rank` counts over all roles; `index` within the role."""

    role: ResolvedRole
    index: int
    rank: int


def roles(job: Doc[Any]) -> tuple[ResolvedRole, ...]:
    """Return the roles of a valid TrainJob, the leading one first; a job without roles has one, `worker`."""
    found = resolved_roles(job.view.spec)
    return tuple(sorted(found, key=lambda role: role.name not in _FIRST))


def shape(role: ResolvedRole) -> dict[str, int]:
    """Return what the main container of one worker asks for; shared memory counts as memory."""
    asked = {
        "cpu": amounts.in_units("cpu", role.cpu),
        "memory": amounts.in_units("memory", role.memory_bytes + role.shm_bytes),
    }
    return asked | ({f"gpu/{role.gpu_model or ANY_MODEL}": role.gpus} if role.gpus else {})


def members(job: Doc[Any]) -> Iterator[Member]:
    """Yield every worker, by rank."""
    rank = 0
    for role in roles(job):
        for index in range(role.replicas):
            yield Member(role, index, rank)
            rank += 1


def pod_name(job: Doc[Any], attempt: int, member: Member) -> str:
    return f"{job.name}-{attempt}-{member.role.name}-{member.index}"


def service_name(job: Doc[Any]) -> str:
    """Return the name of the headless Service that gives a gang's pods their names."""
    return dns_1035_name(f"{job.name}-gang")


def claims(job: Doc[Any]) -> dict[str, bool]:
    """Return the claims a job mounts and whether each is only read."""
    found: dict[str, bool] = {}
    for mount in job.spec.get("mounts") or []:
        if mount.get("claim"):
            found[mount["claim"]] = found.get(mount["claim"], True) and bool(mount.get("readOnly"))
    return found
