"""A pod on a make-believe node: the state machine's actions are performed at once, tests say what happens."""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from trio.testing import MockClock

from headrace.clock import Clock
from headrace.cluster.fake import FakeCluster
from headrace.errors import Unavailable
from headrace.node import lifecycle, status
from headrace.node.agent import Agent
from headrace.node.config import NodeConfig
from headrace.node.podspec import PodSpec
from headrace.node.record import PodRecord
from headrace.node.volumes.places import PodPlace
from headrace.node.world import Exec, WorldRefused
from headrace.spec.kind import Doc, Ref
from headrace.spec.kinds import POD

Json = dict[str, Any]
T0 = 1_800_000_000.0


def container(name: str, **fields: Any) -> Json:
    return {"name": name, "image": "host", "command": ["true"], **fields}


def pod_json(*apps: str | Json, inits: tuple[str | Json, ...] = (), **spec: Any) -> Json:
    def entry(it: str | Json) -> Json:
        return container(it) if isinstance(it, str) else {**container(it["name"]), **it}

    return {
        "metadata": {"name": "p", "namespace": "ns", "uid": "uid-1"},
        "spec": {
            "containers": [entry(a) for a in apps or ("app",)],
            **({"initContainers": [entry(i) for i in inits]} if inits else {}),
            **spec,
        },
    }


class PodSim:
    """Drives `lifecycle.plan` until nothing is due and writes down what it ordered, such as `start app/0`."""

    def __init__(self, raw: Json) -> None:
        self.raw = raw
        self.record = PodRecord(namespace="ns", name="p", uid="uid-1", start_time=T0, address="127.64.0.1")
        self.now = T0
        self.trace: list[str] = []
        self.again_at = float("inf")
        self.reported: dict[str, int] = {}
        self.settle()

    @property
    def pod(self) -> PodSpec:
        return PodSpec(self.raw)

    def settle(self) -> list[str]:
        """Perform what is due; return what was done since the last look."""
        for _ in range(200):
            plan = lifecycle.plan(self.pod, self.record, self.now)
            self.again_at = plan.again_at
            if not plan.actions:
                break
            for action in plan.actions:
                self._perform(action)
        else:
            raise AssertionError("the state machine never settles")
        done, self.trace = self.trace, []
        self.last = done
        return done

    def _perform(self, action: lifecycle.Action) -> None:
        match action:
            case lifecycle.Prepare():
                self.record.prepared = True
            case lifecycle.StartContainer(name, attempt):
                assert lifecycle.note_started(self.pod, self.record, name, attempt, int(self.now * 1e9))
                self.trace.append(f"start {name}/{attempt}")
            case lifecycle.RunHook(name, "postStart"):
                self.record.of(name).post_start = "running"
                self.trace.append(f"postStart {name}")
            case lifecycle.RunHook(name, "preStop"):
                stop = self.record.of(name).stop
                assert stop is not None
                stop.pre_stop = "running"
                self.trace.append(f"preStop {name}")
            case lifecycle.StopContainer(name, grace_s, reason):
                assert self.record.of(name).note_stop(self.now, grace_s, reason)
            case lifecycle.Signal(name, kill):
                self.record.of(name).note_signal(self.now, kill=kill)
                self.trace.append(f"{'KILL' if kill else 'TERM'} {name}")
            case lifecycle.EndPod(reason, message, grace_s):
                assert self.record.note_ending(reason, message, self.now, grace_s)
                self.trace.append(f"end {reason}")
            case lifecycle.Release():
                self.record.released = True
                self.trace.append("release")

    # -- what happens ----------------------------------------------------------------------------------------------

    def exits(self, name: str, code: int = 0, *, signal: int = 0, oom: bool = False) -> list[str]:
        run = self.record.of(name).current
        assert run is not None
        assert self.record.of(name).note_exited(
            run.attempt, int(self.now * 1e9), exit_code=code, signal=signal, oom=oom
        )
        return self.settle()

    def hook_ends(self, name: str, hook: str) -> list[str]:
        state = self.record.of(name)
        if hook == "postStart":
            state.post_start = "done"
        else:
            assert state.stop is not None
            state.stop.pre_stop = "done"
        return self.settle()

    def probed_started(self, name: str) -> list[str]:
        self.record.of(name).started = True
        return self.settle()

    def probe_kills(self, name: str, reason: str, grace_s: float = 30.0) -> list[str]:
        self.record.of(name).note_stop(self.now, grace_s, reason)
        return self.settle()

    def delete(self, grace_s: int = 30) -> list[str]:
        meta = {**self.raw["metadata"], "deletionTimestamp": "x", "deletionGracePeriodSeconds": grace_s}
        self.raw = {**self.raw, "metadata": meta}
        return self.settle()

    def wait(self, seconds: float) -> list[str]:
        """Let time pass, looking only when the machine asked to be asked."""
        end, done = self.now + seconds, []
        while self.again_at <= end:
            self.now = max(self.now, self.again_at)
            done += self.settle()
        self.now = end
        return done + self.settle()

    # -- what is told ----------------------------------------------------------------------------------------------

    @property
    def status(self) -> Json:
        """What the API server has after the writer caught up."""
        while True:
            told = self.next_status()
            shown = status.shown_attempts(told)
            if shown == self.reported:
                return told
            self.reported = shown

    def next_status(self) -> Json:
        """The next status that would be written."""
        return status.compute(self.pod, self.record, status.Facts(host_ip="127.0.0.1"), self.now, self.reported)

    @property
    def phase(self) -> str:
        return str(self.status["phase"])

    def entry(self, name: str) -> Json:
        told = self.status
        entries = [*told.get("initContainerStatuses", []), *told["containerStatuses"]]
        return next(e for e in entries if e["name"] == name)

    def condition(self, type: str) -> str:
        return str(next(c["status"] for c in self.status["conditions"] if c["type"] == type))


@pytest.fixture
def make_pod() -> Callable[..., Json]:
    return pod_json


@pytest.fixture
def simulate() -> Callable[..., PodSim]:
    """Return a function that puts a pod on the node: `simulate("app", inits=(…), restartPolicy="Never")`."""
    return lambda *apps, **spec: PodSim(pod_json(*apps, **spec))


# -- a whole node, with a make-believe world ---------------------------------------------------------------------------


class FakeAttachment:
    def __init__(self, world: FakeWorld) -> None:
        self.hello = {
            "world": "own",
            "pid": 1,
            "boot_id": "boot",
            "started_wall_ns": 0,
            "features": world.features,
            "journal_seq": world.seq,
        }
        self._world = world
        self._entries: list[Json] = []
        self._news = anyio.Event()

    def send_nowait(self, entry: Json) -> None:
        self._entries.append(entry)
        self._news.set()

    async def follow(self, after: int) -> AsyncGenerator[Json, None]:
        for entry in list(self._world.journal):
            if entry["seq"] > after:
                yield entry
        self._world.followers.append(self)
        while True:
            while self._entries:
                yield self._entries.pop(0)
            await self._news.wait()
            self._news = anyio.Event()


class FakeWorld:
    """A world that does what a test says. Containers run until `exits`, `dies` or a signal they heed."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.seq = 0
        self.journal: list[Json] = []
        self.written: list[Json] = []
        self.followers: list[Any] = []
        self.pods: dict[str, dict[str, Json]] = {}
        self.orders: list[Json] = []
        self.mounts: dict[str, Json] = {}
        self.trimmed = 0
        self.deaf: set[str] = set()
        self.refuses: dict[str, WorldRefused] = {}
        self.commands: dict[str, int] = {}
        self.executed: list[Json] = []
        self.features: Json = {"userns": True}
        self.is_up = True
        self._changed = anyio.Event()
        self._execs = 0
        self.write("world-started")

    def write(self, type: str, **fields: Any) -> None:
        self.seq += 1
        wall_ns = int(self.clock.now().timestamp() * 1e9)
        entry = {"event": "journal", "seq": self.seq, "type": type, "wall_ns": wall_ns, **fields}
        self.journal.append(entry)
        self.written.append(entry)
        for follower in self.followers:
            follower.send_nowait(entry)

    # -- World -----------------------------------------------------------------------------------------------------

    async def attach(self, serve: Callable[[Any], Coroutine[Any, Any, None]]) -> None:
        while True:
            while not self.is_up:
                await self._changed.wait()
            changed, attachment = self._changed, FakeAttachment(self)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(serve, attachment)
                await changed.wait()
                tasks.cancel_scope.cancel()
            self.followers.clear()

    async def request(self, op: str, *, fds: Sequence[int] = (), timeout_s: float = 30.0, **fields: Any) -> Json:
        await anyio.lowlevel.checkpoint()
        if not self.is_up:
            raise Unavailable("The world does not answer.")
        await self.before_order(len(self.orders))
        self.orders.append({"op": op, **fields})
        if op in self.refuses:
            raise self.refuses[op]
        answer = getattr(self, "_" + op.replace(".", "_"))(**fields)
        await self.after_order(len(self.orders) - 1)
        return {"ok": True, **(answer or {})}

    async def before_order(self, number: int) -> None:
        """Replaced by tests that kill the agent while an order is on its way."""

    async def after_order(self, number: int) -> None:
        """Replaced by tests that kill the agent while an answer is on its way."""

    async def exec(self, *, fds: Sequence[int], timeout_s: float = 30.0, **fields: Any) -> Exec:
        await self.request("container_exec", **fields)
        self.executed.append(fields)
        self._execs += 1
        command = Exec(self, f"exec-{self._execs}")
        command.ended(self.commands.get(fields["argv"][0], 0))
        return command

    def ops(self, op: str) -> list[Json]:
        return [order for order in self.orders if order["op"] == op]

    # -- orders ----------------------------------------------------------------------------------------------------

    def _pod_create(self, pod: str, **_: Any) -> None:
        if pod not in self.pods:
            self.pods[pod] = {}
            self.write("pod-created", pod=pod)

    def _pod_remove(self, pod: str, **_: Any) -> None:
        if pod in self.pods:
            for name in list(self.pods[pod]):
                self.exits(pod, name, signal=9)
            del self.pods[pod]
            self.write("pod-removed", pod=pod, reason="Removed")

    def _container_start(self, pod: str, container: str, attempt: int, **order: Any) -> Json:
        if pod not in self.pods:
            raise WorldRefused(f"there is no pod {pod}", code="NotFound")
        known = self.pods[pod].get(container)
        if known is None or known["attempt"] != attempt:
            if known is not None and known["state"] == "running":
                raise WorldRefused("it has not ended", code="Conflict")
            self.write("container-started", pod=pod, container=container, attempt=attempt, pid=7)
            started = {"wall_ns": self.journal[-1]["wall_ns"], "mono_ns": 0}
            known = {"container": container, "attempt": attempt, "state": "running", "pid": 7, "started": started}
            self.pods[pod][container] = known
        return {"pid": 7, "started": known["started"]}

    def _container_signal(self, pod: str, container: str, signal: int, **_: Any) -> Json:
        known = self.pods.get(pod, {}).get(container)
        if known is None:
            raise WorldRefused("no such container", code="NotFound")
        if known["state"] == "running" and (signal == 9 or container not in self.deaf):
            self.exits(pod, container, signal=signal)
        return {"running": known["state"] == "running"}

    def _container_exec(self, pod: str, container: str, **_: Any) -> None:
        if self.pods.get(pod, {}).get(container, {}).get("state") != "running":
            raise WorldRefused("it is not running", code="Conflict")

    def _exec_signal(self, **_: Any) -> None: ...

    def _mount_tmpfs(self, target: str, **options: Any) -> None:
        self.mounts[target] = options

    def _mount_unmount(self, target: str, **_: Any) -> None:
        self.mounts.pop(target, None)

    def _state(self) -> Json:
        return {"pods": [{"pod": pod, "containers": list(known.values())} for pod, known in self.pods.items()]}

    def _journal_trim(self, upto: int) -> None:
        self.trimmed = upto
        self.journal = [entry for entry in self.journal if entry["seq"] > upto] or self.journal[-1:]

    # -- what a test makes happen ----------------------------------------------------------------------------------

    def exits(self, pod: str, container: str, code: int = 0, *, signal: int = 0, **more: Any) -> None:
        known = self.pods[pod][container]
        if known["state"] != "running":
            return
        self.write(
            "container-exited",
            pod=pod,
            container=container,
            attempt=known["attempt"],
            exit_code=128 + signal if signal else code,
            signal=signal,
            **more,
        )
        wall_ns = self.journal[-1]["wall_ns"]
        known |= {
            "state": "exited",
            "exit_code": code,
            "signal": signal,
            "finished": {"wall_ns": wall_ns, "mono_ns": 0},
        }

    def runs(self, container: str) -> Json | None:
        """The container of this name that runs, whichever pod it is in."""
        for known in self.pods.values():
            if known.get(container, {}).get("state") == "running":
                return known[container]
        return None

    def go_away(self) -> None:
        """The connection breaks and nobody answers."""
        self.is_up = False
        self._change()

    def come_back(self) -> None:
        self.is_up = True
        self._change()

    def die_and_restart(self, *, proven_s_ago: float) -> None:
        """The world was killed `proven_s_ago` after its last sign of life; its successor writes what was lost."""
        self.go_away()
        wall_ns = int((self.clock.now().timestamp() - proven_s_ago) * 1e9)
        for pod, known in self.pods.items():
            for name, one in known.items():
                if one["state"] == "running":
                    lost = {"exit_code": 137, "signal": 9, "reason": "WorldLost", "wall_ns": wall_ns}
                    self.write("container-exited", pod=pod, container=name, attempt=one["attempt"], **lost)
            self.write("pod-removed", pod=pod, reason="WorldLost", wall_ns=wall_ns)
        self.pods.clear()
        self.mounts.clear()
        self.write("world-started")
        self.come_back()

    def _change(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()


class LoopClock:
    """Wall time that is the event loop's, so that Trio's MockClock moves it."""

    def now(self) -> dt.datetime:
        return dt.datetime(2026, 1, 1, tzinfo=dt.UTC) + dt.timedelta(seconds=self.monotonic_s())

    def monotonic_s(self) -> float:
        try:
            return anyio.current_time()
        except RuntimeError:  # outside of the loop, while a test is set up
            return 0.0


class Notes:
    """Events, as `reason` words and whole sentences."""

    def __init__(self) -> None:
        self.said: list[tuple[str, str]] = []

    async def event(self, doc: Any, type: str, reason: str, message: str) -> None:
        self.said.append((reason, message))

    def reasons(self) -> list[str]:
        return [reason for reason, _ in self.said]


class NodeBench:
    """A node agent over a fake cluster and a fake world."""

    def __init__(self, home: Path) -> None:
        self.clock = LoopClock()
        self.cluster = FakeCluster(self.clock)
        self.world = FakeWorld(self.clock)
        self.notes = Notes()
        self.drivers: dict[str, Any] = {}
        self.home = home
        self.agent: Agent | None = None
        self._scope: anyio.CancelScope | None = None

    def config(self) -> NodeConfig:
        return NodeConfig(
            name="own",
            directory=self.home / "worlds" / "own",
            closed=self.home,
            pod_network="127.64.0.0/24",
            capacity={"cpu": "4", "memory": "8Gi", "pods": "110"},
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run an agent; leaving is `kill -9` as far as anybody can tell."""
        self.agent = Agent(
            self.config(),
            cluster=self.cluster,
            world=self.world,
            drivers=self.drivers,
            recorder=self.notes,
            clock=self.clock,
        )
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.agent.run)
            yield
            tasks.cancel_scope.cancel()

    async def run_killing(self, world: int = -1, patch: int = -1, *, after: bool) -> None:
        """Run an agent, kill it at the given order to the world or patch of a pod, and run another one for ever.

        Args:
            after: whether the order still takes effect, and only its answer is lost.
        """
        killed = anyio.Event()
        patches = 0
        original = self.cluster.patch

        async def strike(number: int, wanted: int) -> None:
            if number == wanted and not killed.is_set():
                killed.set()
                await anyio.sleep_forever()

        async def patching(kind: Any, ref: Any, change: Any, **more: Any) -> Any:
            nonlocal patches
            if kind is not POD:
                return await original(kind, ref, change, **more)
            patches += 1
            if not after:
                await strike(patches, patch)
            doc = await original(kind, ref, change, **more)
            if after:
                await strike(patches, patch)
            return doc

        setattr(self.world, "after_order" if after else "before_order", lambda number: strike(number, world))
        self.cluster.patch = patching  # type: ignore[method-assign,assignment]
        async with anyio.create_task_group() as tasks:

            async def first() -> None:
                async with self.running():
                    await killed.wait()

            await first()
            tasks.start_soon(self._forever)

    async def _forever(self) -> None:
        async with self.running():
            await anyio.sleep_forever()

    async def submit(self, *apps: str | Json, name: str = "p", meta: Json | None = None, **spec: Any) -> Doc[Any]:
        raw = pod_json(*apps, **spec)
        body = {
            "metadata": {"name": name, "namespace": "ns", **(meta or {})},
            "spec": {**raw["spec"], "nodeName": "own"},
        }
        return await self.cluster.create(POD, body)

    def place(self, uid: str) -> PodPlace:
        return PodPlace(self.config().pods, uid)

    def entry(self, container: str, name: str = "p") -> Json:
        """A container's status as the server has it; an empty state before there is one."""
        status = (self.pod(name) or {}).get("status", {})
        entries = [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]
        return next((e for e in entries if e["name"] == container), {"state": {}, "lastState": {}, "restartCount": 0})

    def condition(self, type: str, name: str = "p") -> str:
        conditions = (self.pod(name) or {}).get("status", {}).get("conditions", [])
        return next((c["status"] for c in conditions if c["type"] == type), "")

    async def versions(self, seen: list[Json]) -> None:
        """Put every version of every pod into `seen`, for ever."""
        async with self.cluster.watch(POD, since="0", idle_timeout_s=1e9) as changes:
            async for change in changes:
                if change.type != "BOOKMARK":
                    seen.append(change.doc.raw)  # noqa: PERF401 - for ever

    async def idle(self, seconds: float) -> None:
        """Let make-believe time pass."""
        await anyio.sleep(seconds)

    def pod(self, name: str = "p") -> Json | None:
        """The pod as the server has it, without asking it."""
        raw: Json | None = self.cluster._table(POD).objects.get(Ref("ns", name))
        return raw

    async def until(self, condition: Callable[[], Any], *, within_s: float = 1000.0) -> Any:
        """Wait in make-believe time until something is so."""
        with anyio.move_on_after(within_s):
            while not (found := condition()):  # noqa: ASYNC110 - virtual time; conditions read the fakes
                await anyio.sleep(0.02)
            return found
        raise AssertionError(f"not so within {within_s} s: {self.pod()}, {self.notes.said[-5:]}")

    async def until_phase(self, phase: str, name: str = "p") -> Json:
        def reached() -> Json | None:
            pod = self.pod(name)
            return pod if pod and pod["status"].get("phase") == phase else None

        found: Json = await self.until(reached)
        return found

    async def until_running(self, container: str = "app") -> Json:
        found: Json = await self.until(lambda: self.world.runs(container))
        return found


@pytest.fixture
def bench(tmp_path: Path) -> NodeBench:
    return NodeBench(tmp_path)


@pytest.fixture
def make_believe_time() -> tuple[str, dict[str, Any]]:
    """For `anyio_backend`: Trio with a clock that jumps to the next deadline when nobody has anything to do."""
    return "trio", {"clock": MockClock(autojump_threshold=0)}
