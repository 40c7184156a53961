"""What the builtin controllers do, as values: plans are lists of these, and one performer carries them out.

Plans are pure and table-tested; everything that can fail is here. Each action is idempotent, so a plan that was
interrupted is simply made and performed again.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, Literal, assert_never

import anyio
import anyio.to_thread
import msgspec

from headrace.cluster.cache import Cache
from headrace.cluster.controller import Result
from headrace.cluster.events import Recorder
from headrace.cluster.protocol import Cluster, MergePatch, Propagation
from headrace.errors import AlreadyExists, EngineFailed, NotFound
from headrace.spec.kind import Doc, Json, Kind, Ref


class Create(msgspec.Struct, frozen=True):
    """Make an object; that it exists already is fine."""

    kind: Kind[Any]
    body: Json


class Patch(msgspec.Struct, frozen=True):
    """Merge-patch an object; that it is gone is fine, and so ends the plan. Put a resourceVersion in to compare."""

    kind: Kind[Any]
    ref: Ref
    body: Json
    subresource: str = ""


class Delete(msgspec.Struct, frozen=True):
    """Ask for the deletion of one object; that it is gone is fine. With a version, only if it is still as it was."""

    kind: Kind[Any]
    ref: Ref
    uid: str
    version: str = ""
    grace_s: int | None = None
    propagation: Propagation = "Background"


class Bind(msgspec.Struct, frozen=True):
    """Bind a pod to a node."""

    ref: Ref
    node: str


class Tell(msgspec.Struct, frozen=True):
    """Record an event about an object."""

    about: Doc[Any]
    type: Literal["Normal", "Warning"]
    reason: str
    message: str


class MakeDirectory(msgspec.Struct, frozen=True):
    """Make a directory that every user of the machine may write to, as local-path volumes are."""

    path: Path


class RemoveDirectory(msgspec.Struct, frozen=True):
    """Remove a directory and all that is in it."""

    path: Path


Action = Create | Patch | Delete | Bind | Tell | MakeDirectory | RemoveDirectory


class Plan(msgspec.Struct, frozen=True):
    """What to do now, in this order, and when to look again although nothing has changed."""

    actions: tuple[Action, ...] = ()
    again_after_s: float | None = None


NOTHING = Plan()


class Performer:
    """Carries out plans through one cluster, and lets the cache know what came of them."""

    def __init__(self, cluster: Cluster, cache: Cache, events: Recorder) -> None:
        self._cluster = cluster
        self._cache = cache
        self._events = events
        self._disk = anyio.CapacityLimiter(2)

    async def perform(self, plan: Plan) -> Result:
        """Carry out a plan; raises what the cluster raises, such as Conflict, for the controller to retry."""
        for action in plan.actions:
            try:
                await self._act(action)
            except NotFound:
                if isinstance(action, Patch | Bind):
                    break
        return Result(plan.again_after_s)

    async def _act(self, action: Action) -> None:
        match action:
            case Create():
                try:
                    self._cache.assume(await self._cluster.create(action.kind, action.body))
                except AlreadyExists:
                    return
            case Patch():
                patch = MergePatch(action.body)
                answer = await self._cluster.patch(action.kind, action.ref, patch, subresource=action.subresource)
                self._cache.assume(answer)
            case Delete():
                await self._cluster.delete(
                    action.kind,
                    action.ref,
                    uid=action.uid,
                    version=action.version,
                    grace_s=action.grace_s,
                    propagation=action.propagation,
                )
            case Bind():
                await self._cluster.bind(action.ref, action.node)
            case Tell():
                await self._events.event(action.about, action.type, action.reason, action.message)
            case MakeDirectory():
                await anyio.to_thread.run_sync(_make, action.path, limiter=self._disk)
            case RemoveDirectory():
                await anyio.to_thread.run_sync(_remove, action.path, limiter=self._disk)
            case _:
                assert_never(action)


def _make(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(0o777)
    except OSError as error:
        raise EngineFailed(f"The volume's directory {path} cannot be made: {error}.", hint="Check the disk.") from error


def _remove(path: Path) -> None:
    try:
        shutil.rmtree(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise EngineFailed(
            f"The volume's directory {path} cannot be removed: {error}.", hint="Remove it by hand."
        ) from error
