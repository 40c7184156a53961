"""A TrainJob as a gang: its roles, what a worker of each takes, and the names of its pods. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from headrace.ids import dns_1035_name
from headrace.pools import amounts
from headrace.pools.amounts import Amounts
from headrace.spec.kind import Doc, Json
from headrace.units import parse_quantity

DEFAULT_CPU = "1"
DEFAULT_MEMORY = "1Gi"
_FIRST = ("chief", "master", "launcher")  # their first worker is rank 0, by every framework's convention


class Role(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of worker. `shape` is the main container's, shared memory included in its memory."""

    name: str
    count: int
    command: tuple[str, ...]
    image: str
    env: Mapping[str, Any]
    shape: Amounts
    shm_bytes: int


class Member(msgspec.Struct, frozen=True):
    """One worker of a gang. `rank` counts over all roles; `index` within the role."""

    role: Role
    index: int
    rank: int


def roles(job: Doc[Any]) -> tuple[Role, ...]:
    """Return the roles of a valid TrainJob, the leading one first; a job without roles has one, `worker`."""
    spec = job.spec
    given: dict[str, Json] = spec.get("roles") or {"worker": {"replicas": spec.get("workers") or 1}}
    ordered = sorted(given, key=lambda name: (name not in _FIRST, list(given).index(name)))
    return tuple(_role(name, given[name], spec) for name in ordered)


def _role(name: str, said: Json, spec: Json) -> Role:
    resources = {**(spec.get("resources") or {}), **(said.get("resources") or {})}
    shm = int(parse_quantity(resources["shm"])) if resources.get("shm") is not None else 0
    shape = amounts.parse({"cpu": resources.get("cpu", DEFAULT_CPU), "memory": resources.get("memory", DEFAULT_MEMORY)})
    shape["memory"] += shm
    if resources.get("gpu") is not None:
        model, count = gpu(str(resources["gpu"]))
        shape[f"gpu/{model}"] = count
    return Role(
        name=name,
        count=int(said.get("replicas", 1)),
        command=tuple(said.get("command") or spec.get("command") or ()),
        image=said.get("image") or spec.get("image") or "",
        env={**(spec.get("env") or {}), **(said.get("env") or {})},
        shape=shape,
        shm_bytes=shm,
    )


def gpu(text: str) -> tuple[str, int]:
    """Return model and number of `A100:1`, `A100` or `2` (any model)."""
    match = re.fullmatch(r"(?:(?P<model>[A-Za-z][\w.-]*)(?::(?P<count>\d+))?|(?P<any>\d+))", text)
    if match is None:
        raise ValueError(f"{text!r} is no GPU request; write MODEL:number such as A100:1, or a number")
    if match["any"]:
        return "any", int(match["any"])
    return match["model"], int(match["count"] or 1)


def members(job: Doc[Any]) -> Iterator[Member]:
    """Yield every worker, by rank."""
    rank = 0
    for role in roles(job):
        for index in range(role.count):
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
