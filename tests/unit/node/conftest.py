"""A pod on a make-believe node: the state machine's actions are performed at once, tests say what happens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from headrace.node import lifecycle, status
from headrace.node.podspec import PodSpec
from headrace.node.record import PodRecord

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
