"""What a server holds before anybody has used it: the kinds it serves, and the objects every cluster begins with."""

from __future__ import annotations

from functools import cache
from typing import Any

from headrace.engine.pipeline.pipeline import Pipeline
from headrace.engine.pipeline.registry import Registry, Resource
from headrace.engine.pipeline.request import LOOPBACK, Request
from headrace.errors import AlreadyExists
from headrace.spec.crds import crd
from headrace.spec.kind import Json, Kind
from headrace.spec.kinds import ALL_KINDS, CORE_KINDS, CRD, NAMESPACE, PRIORITY_CLASS
from headrace.spec.names import NODE_LEASE_NAMESPACE, SYSTEM_NAMESPACE

NAMESPACES = ("default", "kube-system", "kube-public", NODE_LEASE_NAMESPACE, SYSTEM_NAMESPACE)
_AGENT = "headrace-control"
_PRIORITIES = {"system-cluster-critical": 2_000_000_000, "system-node-critical": 2_000_001_000}


def builtin_registry() -> Registry:
    """Return a registry that serves every kind of `headrace.spec.kinds`."""
    registry = Registry()
    for kind in CORE_KINDS:
        registry.add(Resource(kind=kind, source="builtin"))
    for kind in _own_kinds():
        schema = _definition(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        registry.add(Resource(kind=kind, source="headrace", schema=schema))
    return registry


async def seed(pipeline: Pipeline) -> None:
    """Make what is missing of the first objects, and bring the definitions of our kinds up to date. Idempotent."""
    for name in NAMESPACES:
        await _ensure(pipeline, NAMESPACE, {"metadata": {"name": name}})
    for name, value in _PRIORITIES.items():
        await _ensure(pipeline, PRIORITY_CLASS, {"metadata": {"name": name}, "value": value})
    for kind in _own_kinds():
        definition = _definition(kind)
        if not await _ensure(pipeline, CRD, definition):
            name = definition["metadata"]["name"]
            patch = {"spec": definition["spec"]}
            await pipeline.handle(LOOPBACK, Request(verb="patch", kind=CRD, name=name, body=patch, agent=_AGENT))


@cache
def _definition(kind: Kind[Any]) -> Json:
    """The definition of a kind, generated once: it is needed for the registry and for the object."""
    return crd(kind)


def _own_kinds() -> list[Kind[Any]]:
    return [kind for kind in ALL_KINDS if kind not in CORE_KINDS]


async def _ensure(pipeline: Pipeline, kind: Kind[Any], body: Json) -> bool:
    try:
        await pipeline.handle(LOOPBACK, Request(verb="create", kind=kind, body=body, agent=_AGENT))
    except AlreadyExists:
        return False
    return True
