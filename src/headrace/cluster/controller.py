"""`Controller` runs a reconciler over the objects that change; `Group` runs caches and controllers together.

The words and the promises are controller-runtime's: level-triggered, one key never with two workers, errors retried
with growing pauses. A reconcile that fails in any way, a bug included, is logged and tried again; it never takes
another one with it. Cancellation is immediate and reaches running reconciles, because that is what makes losing a
lease safe: what a reconciler must finish all the same it shields itself, with a deadline.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any, Protocol, TypeVar

import anyio
import msgspec
from anyio.abc import TaskStatus

from headrace.cluster.backoff import Backoff
from headrace.cluster.cache import Cache
from headrace.cluster.lease import Lease
from headrace.cluster.workqueue import WorkQueue
from headrace.errors import Conflict, HeadraceError, Unavailable
from headrace.spec.kind import Doc, Kind, Ref
from headrace.telemetry import logger

T = TypeVar("T", bound=msgspec.Struct)

BACKOFF = Backoff(first_s=0.1, cap_s=60.0)

RECONCILE_FAILED = "reconcile.failed"
RECONCILE_BROKE = "reconcile.broke"
RECONCILE_GAVE_UP = "reconcile.gave_up"
STARTED = "controllers.started"


class Result(msgspec.Struct, frozen=True):
    """A reconcile that went well. Args: again_after_s: look again after so long, even if nothing changes."""

    again_after_s: float | None = None


class Retry(HeadraceError):
    """Raised by a reconciler: not yet, and not because anything is wrong. Looked at again after `after_s`."""

    code = "Retry"

    def __init__(self, after_s: float, what: str = "Not ready yet.") -> None:
        super().__init__(what)
        self.after_s = after_s


class Terminal(HeadraceError):
    """Raised by a reconciler: trying again cannot help. Looked at again only when something changes."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message, code=reason)


Reconcile = Callable[[Ref], Awaitable[Result]]
Mapper = Callable[[Doc[T]], Iterable[Ref]]
Predicate = Callable[[Doc[T] | None, Doc[T] | None], bool]


def own(doc: Doc[Any]) -> Iterable[Ref]:
    """Map an object to itself."""
    return (doc.ref,)


def owned_by(kind: Kind[Any]) -> Mapper[Any]:
    """Return the mapper from an object to the object of `kind` that controls it, in its namespace or cluster-wide."""

    def owner(doc: Doc[Any]) -> Iterable[Ref]:
        namespace = doc.namespace if kind.namespaced else ""
        for entry in doc.owners:
            group = entry.get("apiVersion", "").rpartition("/")[0]
            if entry.get("controller") and entry.get("kind") == kind.name and group == kind.group:
                yield Ref(namespace, entry["name"])

    return owner


class Controller:
    """Calls `reconcile(ref)` for every object there is, and again whenever something it watches changes.

    Args:
        name: for logs.
        cache: where the watched kinds come from; it must be synced before `run`.
        reconcile: observes the cache, decides, acts. Idempotent; called for objects that are gone, too.
        workers: how many reconciles may run at once.
        timeout_s: a reconcile that takes longer is cancelled and tried again.
    """

    def __init__(
        self, name: str, cache: Cache, reconcile: Reconcile, *, workers: int = 4, timeout_s: float = 120.0
    ) -> None:
        self.name = name
        self._cache = cache
        self._reconcile = reconcile
        self._workers = workers
        self._timeout_s = timeout_s
        self._queue: WorkQueue[Ref] = WorkQueue(BACKOFF)
        self._log = logger(controller=name)
        self.results: Counter[str] = Counter()
        """How many reconciles ended how: `ok`, `retry`, `conflict`, `failed`, `broke`."""

    @property
    def depth(self) -> int:
        """How many objects are ready to be reconciled."""
        return len(self._queue)

    def watches(self, kind: Kind[T], to: Mapper[T] = own, *, when: Predicate[T] | None = None) -> Controller:
        """Reconcile what `to` maps a changed object to, as it was and as it is now; `when(old, new)` may filter.

        Returns the controller itself, so that calls chain.
        """

        def changed(old: Doc[T] | None, new: Doc[T] | None) -> None:
            if when is None or when(old, new):
                for doc in (old, new):
                    if doc is not None:
                        for ref in to(doc):
                            self._queue.add(ref)

        self._cache.subscribe(kind, changed)
        return self

    def enqueue(self, ref: Ref) -> None:
        """Reconcile an object for a reason that is no object: a message, a process that ended."""
        self._queue.add(ref)

    async def run(self) -> None:
        """Work until cancelled."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._queue.run)
            for _ in range(self._workers):
                tasks.start_soon(self._work)

    async def _work(self) -> None:
        while True:
            ref = await self._queue.get()
            is_settled = False
            try:
                await self._attempt(ref)
                is_settled = True
            finally:
                if not is_settled:
                    self._queue.add(ref)  # cancelled half-way: whoever leads next looks again
                self._queue.done(ref)

    async def _attempt(self, ref: Ref) -> None:
        try:
            with anyio.fail_after(self._timeout_s):
                result = await self._reconcile(ref)
        except Exception as error:  # noqa: BLE001 logged and retried; one object must not stop the others
            self._after_failure(ref, _only(error))
        else:
            self.results["ok"] += 1
            self._queue.forget(ref)
            if result.again_after_s is not None:
                self._queue.add_after(ref, result.again_after_s)

    def _after_failure(self, ref: Ref, error: Exception) -> None:
        match error:
            case Retry():
                self.results["retry"] += 1
                self._queue.forget(ref)
                self._queue.add_after(ref, error.after_s)
            case Terminal():
                self.results["failed"] += 1
                self._queue.forget(ref)
                self._log.warning(RECONCILE_GAVE_UP, object=str(ref), reason=error.code, error=str(error))
            case Conflict():  # the cache was behind; the change that we missed is on its way
                self.results["conflict"] += 1
                self._queue.retry(ref)
                self._log.debug(RECONCILE_FAILED, object=str(ref), code=error.code, error=str(error))
            case HeadraceError():
                self.results["failed"] += 1
                delay_s = error.retry_after_s if isinstance(error, Unavailable) else None
                self._queue.retry(ref, at_least_s=delay_s or 0.0)
                self._log.info(
                    RECONCILE_FAILED,
                    object=str(ref),
                    code=error.code,
                    error=str(error),
                    failures=self._queue.failures(ref),
                )
            case _:
                self.results["broke"] += 1
                self._queue.retry(ref)
                self._log.error(RECONCILE_BROKE, object=str(ref), failures=self._queue.failures(ref), exc_info=error)


def _only(error: Exception) -> Exception:
    """Return the error inside groups of one, as task groups raise them."""
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


class Runnable(Protocol):
    """What a group runs beside its cache: a Controller, or a loop of another kind."""

    async def run(self) -> None:
        """Work until cancelled."""
        ...


class Group(anyio.AsyncContextManagerMixin):
    """A cache and what works on it: the cache first, then, once it is synced, the rest, all in one task group.

    Use `async with Group(cache, [controller, …]):`, which begins when the controllers do, or `run()` in a task. When
    one part fails, all end; when cancelled, all end at once.

    Args:
        lease: if given, the runnables run only while it is held, and the cache stays warm in between.
    """

    def __init__(self, cache: Cache, runnables: Iterable[Runnable], *, lease: Lease | None = None) -> None:
        self._cache = cache
        self._runnables = list(runnables)
        self._lease = lease

    @asynccontextmanager
    async def __asynccontextmanager__(self) -> AsyncIterator[Group]:
        async with anyio.create_task_group() as tasks:
            await tasks.start(self.run)
            yield self
            tasks.cancel_scope.cancel()

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Run until cancelled; `started` once the cache is synced."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._cache.run)
            await self._cache.synced()
            task_status.started()
            if self._lease is None:
                await self._work()
            else:
                await self._lease.lead(self._work)

    async def _work(self) -> None:
        async with anyio.create_task_group() as tasks:
            for runnable in self._runnables:
                tasks.start_soon(runnable.run)
            await anyio.sleep_forever()
