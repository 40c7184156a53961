"""A `World` that is a real node: mounts are made here, in the driver's own mount namespace.

The driver's container sees the kubelet's directory of pods with propagation *Bidirectional*, so what is mounted there
appears on the node, and with it in pods. Services are child processes: they end with this process and are started
again when they end. It runs no pods, so it cannot serve PersistentVolumes: their clients would be containers of ours.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import anyio
from anyio import to_thread
from anyio.abc import Process, TaskGroup

from headrace.errors import EngineFailed, HeadraceError, Unavailable, Unsupported
from headrace.sandbox import mounts, orders
from headrace.sandbox.root import tmpfs_options
from headrace.sandbox.wire import Refusal
from headrace.spec.kind import Json
from headrace.telemetry import logger

SERVICE_ENDED = "csi.service_ended"

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 5.0
_RAN_WELL_S = 60.0
_STOP_WITHIN_S = 5.0
_MOST_THREADS = 8

_log = logger(component="csi")


class HostRefused(HeadraceError):
    """An order was understood and is not carried out; `code` is a world's (`Conflict`, `NotFound`, `Invalid`, …)."""

    http_status = 409


@dataclass
class _Service:
    argv: list[str]
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    ended: anyio.Event = field(default_factory=anyio.Event)
    pid: int = 0


class HostWorld:
    """This node. Services run only inside of `running()`."""

    def __init__(self) -> None:
        self._started_wall_ns = time.time_ns()
        self._limiter: anyio.CapacityLimiter | None = None
        self._tasks: TaskGroup | None = None
        self._services: dict[str, _Service] = {}

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncGenerator[None, None]:
        """Run services in the background; all of them have ended afterwards."""
        async with anyio.create_task_group() as tasks:
            self._tasks = tasks
            try:
                yield
            finally:
                self._tasks = None
                tasks.cancel_scope.cancel()

    async def request(self, op: str, *, fds: Sequence[int] = (), timeout_s: float = 30.0, **fields: Any) -> Json:  # noqa: ARG002
        """Carry out an order about mounts or services (`headrace.sandbox.mounts`, `.services`).

        Raises:
            HostRefused: it cannot be carried out, and why.
            Unavailable: not within `timeout_s`; it may be carried out yet.
            Unsupported: a node's host does not do this.
        """
        if op == "hello":
            return {"world": "host", "pid": os.getpid(), "started_wall_ns": self._started_wall_ns}
        if op == "state":
            services = [{"service": name, "argv": s.argv, "pid": s.pid} for name, s in self._services.items()]
            return {"pods": [], "services": services}
        if op == "service.start":
            return self._start(str(fields["service"]), list(fields["argv"]))
        if op == "service.stop":
            return await self._stop(str(fields["service"]))
        work = _mount_work(op, fields)
        if work is None:
            raise Unsupported(f"A node's host does not carry out {op}.")
        return await self._in_thread(op, work, timeout_s)

    async def _in_thread(self, op: str, work: Callable[[], Json], timeout_s: float) -> Json:
        """Nothing here waits for a FUSE client; should a path hang all the same, only its thread is lost."""
        self._limiter = self._limiter or anyio.CapacityLimiter(_MOST_THREADS)
        try:
            with anyio.fail_after(timeout_s):
                return await to_thread.run_sync(work, abandon_on_cancel=True, limiter=self._limiter)
        except Refusal as refusal:
            raise HostRefused(f"{refusal.message}.", code=refusal.code) from refusal
        except TimeoutError as error:
            raise Unavailable(
                f"{op} took longer than {timeout_s:g} s.", hint="Does a mount on its path hang?"
            ) from error
        except OSError as error:
            raise HostRefused(f"{op} failed: {error}.", code="Failed") from error

    def _start(self, name: str, argv: list[str]) -> Json:
        known = self._services.get(name)
        if known is not None:
            if known.argv != argv:
                raise HostRefused(f"Service {name} runs another command; stop it first.", code="Conflict")
            return {"pid": known.pid}
        if self._tasks is None:
            raise EngineFailed(f"Service {name} was started outside of running().")
        self._services[name] = service = _Service(argv)
        self._tasks.start_soon(self._run, name, service)
        return {"pid": 0}

    async def _stop(self, name: str) -> Json:
        service = self._services.get(name)
        if service is not None:
            service.scope.cancel()
            await service.ended.wait()
        return {}

    async def _run(self, name: str, service: _Service) -> None:
        pause_s = _FIRST_PAUSE_S
        try:
            with service.scope:
                while True:
                    begun = anyio.current_time()
                    code = await _run_once(service)
                    ran_well = anyio.current_time() - begun > _RAN_WELL_S
                    pause_s = _FIRST_PAUSE_S if ran_well else pause_s
                    _log.warning(SERVICE_ENDED, service=name, exit_code=code, started_again_in_s=pause_s)
                    await anyio.sleep(pause_s)
                    pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
        finally:
            del self._services[name]
            service.ended.set()


async def _run_once(service: _Service) -> int | str:
    """Run a service's process to its end. It says what it has to say where this process does, and its standard input
    ends with this process."""
    try:
        with anyio.CancelScope(shield=True):  # cancelled halfway, it would leave a process that nobody knows
            process = await anyio.open_process(service.argv, stdin=subprocess.PIPE, stdout=None, stderr=None)
    except OSError as error:
        return str(error)
    service.pid = process.pid
    try:
        return await process.wait()
    finally:
        service.pid = 0
        with anyio.CancelScope(shield=True):
            await _end(process)
            await process.aclose()


async def _end(process: Process) -> None:
    if process.returncode is None:
        process.terminate()
        with anyio.move_on_after(_STOP_WITHIN_S):
            await process.wait()
            return
        process.kill()


def _mount_work(op: str, fields: dict[str, Any]) -> Callable[[], Json] | None:
    if op == "mount.tmpfs":
        options = tmpfs_options(orders.tmpfs({key: fields[key] for key in ("mode", "size_bytes") if key in fields}))
        return partial(mounts.mount_tmpfs, fields["target"], options)
    if op == "mount.bind":
        read_only, recursive = bool(fields.get("read_only", False)), bool(fields.get("recursive", True))
        return partial(mounts.bind, fields["source"], fields["target"], read_only=read_only, recursive=recursive)
    if op == "mount.mirror":
        return partial(
            mounts.mirror, fields["source"], fields["target"], read_only=bool(fields.get("read_only", False))
        )
    if op == "mount.unmount":
        every, lazy = bool(fields.get("all", False)), bool(fields.get("lazy", False))
        return partial(mounts.unmount, fields["target"], every=every, lazy=lazy)
    if op == "mount.list":
        return partial(_listed, fields.get("prefix", "/"))
    return None


def _listed(prefix: str) -> Json:
    return {"mounts": [found for found in mounts.listed() if mounts.is_beneath(found["target"], prefix)]}
