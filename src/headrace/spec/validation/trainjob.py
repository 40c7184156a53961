"""TrainJob."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from typing import Any

from headrace.spec.headrace.roles import DEFAULT_ROLE, parse_gpu
from headrace.spec.headrace.trainjob import SecretKey, TrainJob, TrainJobSpec, WorkerResources
from headrace.spec.validation.metadata import check_label, check_subdomain
from headrace.spec.validation.problem import (
    Problem,
    Problems,
    check,
    check_absolute,
    check_duration,
    check_quantity,
    check_relative,
    check_unique,
    member,
)
from headrace.units import parse_quantity

WORKSPACE = "/workspace"
"""Where the code is in every worker."""

_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_ARCHIVE = re.compile(r"sha256:[0-9a-f]{64}")
_SOURCE = re.compile(r"[a-z][a-z0-9+.-]*://\S+")
_PYTHON_VERSION = re.compile(r"3\.\d+(\.\d+)?")
_RESERVED_PATHS = ("/proc", "/sys", "/dev", "/etc/fluid", "/run/headrace")
_ATTEMPT_DIGITS = 3
_MAX_WORKERS = 10_000


def check_train_job(job: TrainJob) -> Problems:
    """Report what is wrong with a TrainJob."""
    spec = job.spec
    yield from _name(job)
    if not spec.command:
        yield Problem("spec.command", "is required: the program and its arguments, such as [python, train.py]")
    yield from _workers(spec)
    yield from _resources("spec.resources", spec.resources)
    yield from _env("spec.env", spec.env)
    for name, role in spec.roles.items():
        path = member("spec.roles", name)
        yield from check_label(path, name)
        if not 1 <= role.replicas <= _MAX_WORKERS:
            yield Problem(f"{path}.replicas", f"is {role.replicas}; it must be 1 to {_MAX_WORKERS}")
        if role.resources is not None:
            yield from _resources(f"{path}.resources", role.resources)
        yield from _env(f"{path}.env", role.env)
    yield from _program(spec)
    yield from _mounts(spec)
    yield from _outputs(spec)
    yield from _limits(spec)
    yield from check_subdomain("spec.queue", spec.queue, what="a Queue's name")
    yield from check_unique("spec.pools", spec.pools)
    for index, pool in enumerate(spec.pools):
        yield from check_subdomain(f"spec.pools[{index}]", pool, what="a Pool's name")


def _name(job: TrainJob) -> Problems:
    """Pods are `<job>-<attempt>-<role>-<i>`, and each is a host name, so 63 characters are the most."""
    name = job.metadata.name
    if not name:
        return
    if "." in name:
        yield Problem("metadata.name", f"is {name!r}; a job's name must be without dots, for it becomes host names")
    roles = {role: spec.replicas for role, spec in job.spec.roles.items()} or {DEFAULT_ROLE: job.spec.workers or 1}
    tail = max(len(f"-{role}-{max(replicas - 1, 0)}") for role, replicas in roles.items())
    most = 63 - tail - _ATTEMPT_DIGITS - 1
    if len(name) > most:
        yield Problem(
            "metadata.name", f"has {len(name)} characters; {most} are the most, for it becomes host names of workers"
        )


def _workers(spec: TrainJobSpec) -> Problems:
    if spec.workers is not None and spec.roles:
        yield Problem("spec.workers", "may not be given together with roles; say replicas in each role")
    if spec.workers is not None and not 1 <= spec.workers <= _MAX_WORKERS:
        yield Problem("spec.workers", f"is {spec.workers}; it must be 1 to {_MAX_WORKERS}")


def _resources(path: str, resources: WorkerResources) -> Problems:
    for field in ("cpu", "memory", "shm"):
        value = getattr(resources, field)
        if value is not None:
            yield from check_quantity(f"{path}.{field}", value, zero=False)
    if resources.gpu is not None:
        yield from check(f"{path}.gpu", resources.gpu, parse_gpu)
    try:
        memory = parse_quantity(resources.memory) if resources.memory is not None else None
        shm = parse_quantity(resources.shm) if resources.shm is not None else None
    except ValueError:
        return
    if memory is not None and memory < 1024 * 1024:
        yield Problem(
            f"{path}.memory",
            f"is {resources.memory}, which is less than 1Mi; give it a unit such as {resources.memory}Gi",
        )
    if memory is not None and shm is not None and shm > memory:
        yield Problem(
            f"{path}.shm", f"is {resources.shm}, more than the memory of {resources.memory}, of which it is a part"
        )


def _env(path: str, env: Mapping[str, Any]) -> Problems:
    for name, value in env.items():
        where = member(path, name)
        if not _ENV_NAME.fullmatch(name):
            yield Problem(
                where, f"{name!r} is no variable's name; use letters, digits and '_', not beginning with a digit"
            )
        if isinstance(value, SecretKey):
            yield from check_subdomain(f"{where}.secret", value.secret, what="a Secret's name")
            if not value.key:
                yield Problem(f"{where}.key", "is required: the key in the Secret")


def _program(spec: TrainJobSpec) -> Problems:
    if spec.python is not None:
        if spec.image:
            yield Problem("spec.python", "may not be given together with image; choose one")
        if spec.python.version and not _PYTHON_VERSION.fullmatch(spec.python.version):
            yield Problem("spec.python.version", f"is {spec.python.version!r}; write it as 3.12")
        yield from check_relative("spec.python.requirements", spec.python.requirements)
    code = spec.code
    if code is None:
        return
    given = [field for field in ("directory", "git", "archive") if getattr(code, field)]
    if len(given) != 1:
        yield Problem("spec.code", "must have exactly one of directory, git and archive")
    if code.directory:
        yield Problem(
            "spec.code.directory",
            "is a place on your machine, which only `headrace apply`, `headrace run` and the SDK can pack; use one of them",
        )
    if code.revision and not code.git:
        yield Problem("spec.code.revision", "means something together with git only")
    if code.archive and not _ARCHIVE.fullmatch(code.archive):
        yield Problem("spec.code.archive", f"is {code.archive!r}; it must be sha256: and 64 hexadecimal digits")


def _mounts(spec: TrainJobSpec) -> Problems:
    yield from check_unique("spec.mounts", (posixpath.normpath(mount.path) for mount in spec.mounts), "path")
    for index, mount in enumerate(spec.mounts):
        path = f"spec.mounts[{index}]"
        yield from check_absolute(f"{path}.path", mount.path)
        yield from _place(f"{path}.path", posixpath.normpath(mount.path), has_code=spec.code is not None)
        yield from check_relative(f"{path}.subPath", mount.sub_path)
        if bool(mount.claim) == bool(mount.source):
            yield Problem(path, "must have exactly one of claim and source")
        if mount.claim:
            yield from check_subdomain(
                f"{path}.claim", mount.claim, what="a PersistentVolumeClaim of the job's namespace"
            )
            for field in ("secret", "profile"):
                if getattr(mount, field):
                    yield Problem(f"{path}.{field}", "means something together with source only")
        if mount.source and not _SOURCE.fullmatch(mount.source):
            yield Problem(f"{path}.source", f"is {mount.source!r}; write it as a URL such as s3://bucket/path")
        if mount.secret:
            yield from check_subdomain(f"{path}.secret", mount.secret, what="a Secret of the job's namespace")


def _place(path: str, place: str, *, has_code: bool) -> Problems:
    reserved = (*_RESERVED_PATHS, WORKSPACE) if has_code else _RESERVED_PATHS
    if place == "/" or any(place == taken or place.startswith(f"{taken}/") for taken in reserved):
        yield Problem(path, f"is {place!r}, which is taken; choose another place such as /data")


def _outputs(spec: TrainJobSpec) -> Problems:
    writable = [posixpath.normpath(mount.path) for mount in spec.mounts if not mount.read_only]
    for name, output in spec.outputs.items():
        where = member("spec.outputs", name)
        yield from check_label(where, name)
        yield from check_absolute(f"{where}.path", output.path)
        place = posixpath.normpath(output.path)
        if not any(place == mount or place.startswith(f"{mount}/") for mount in writable):
            yield Problem(
                f"{where}.path",
                f"is {output.path!r}, which is beneath no writable mount, so it would be lost with the worker",
            )


def _limits(spec: TrainJobSpec) -> Problems:
    yield from check_duration("spec.expectedDuration", spec.expected_duration)
    yield from check_duration("spec.maxDuration", spec.max_duration)
    if not 0 <= spec.retry.limit <= 100:
        yield Problem("spec.retry.limit", f"is {spec.retry.limit}; it must be 0 to 100")
    yield from check_unique("spec.retry.on", spec.retry.on)
    if not 0 <= spec.checkpoint.grace_seconds <= 86400:
        yield Problem("spec.checkpoint.graceSeconds", f"is {spec.checkpoint.grace_seconds}; it must be 0 to 86400")
