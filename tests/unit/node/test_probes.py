"""Thresholds and rhythm of probes, and the handlers they ask through."""

from __future__ import annotations

import math
from typing import Any

import anyio
import pytest

from headrace.errors import InvalidSpec, Unavailable
from headrace.node.handlers import Handlers, Verdict, port_of
from headrace.node.podspec import PodSpec
from headrace.node.probes import Counter, ProbeKind, Settings, watch

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend(make_believe_time: tuple[str, dict[str, Any]]) -> tuple[str, dict[str, Any]]:
    return make_believe_time


def test_defaults_are_kubernetes() -> None:
    assert Settings.of({}) == Settings(0, 10, 1, 1, 3)


@pytest.mark.parametrize(
    ("verdicts", "outcomes"),
    [
        ("+", "s"),
        ("---", "uuf"),
        ("--+---", "uusuuf"),
        ("----", "uuff"),
    ],
)
def test_failure_threshold(verdicts: str, outcomes: str) -> None:
    counter = Counter(Settings.of({}))
    assert "".join(counter.count(v == "+")[0] for v in verdicts) == outcomes


def test_success_threshold() -> None:
    counter = Counter(Settings.of({"successThreshold": 2, "failureThreshold": 1}))
    assert "".join(counter.count(v == "+")[0] for v in "+-++") == "ufus"


class Target:
    """Answers with a script and writes down when it was asked."""

    def __init__(self, script: str) -> None:
        self.script = script
        self.asked: list[float] = []
        self.outcomes: list[str] = []

    async def ask(self) -> Verdict:
        self.asked.append(anyio.current_time())
        answer = self.script[min(len(self.asked), len(self.script)) - 1]
        if answer == "?":
            raise Unavailable("the world is away")
        return Verdict(answer == "+")

    def told(self, outcome: str, _verdict: Verdict) -> bool:
        self.outcomes.append(outcome)
        return True

    async def watched(
        self, kind: ProbeKind, seconds: float, probe: dict[str, Any], *, ran_for_s: float = 0.0
    ) -> list[float]:
        began = anyio.current_time()
        with anyio.move_on_after(seconds):
            await watch(kind, Settings.of(probe), self.ask, self.told, ran_for_s=ran_for_s)
        return [round(at - began, 2) for at in self.asked]


async def test_rhythm() -> None:
    target = Target("+")
    assert await target.watched("livenessProbe", 25, {"initialDelaySeconds": 3}) == [3, 13, 23]


async def test_an_old_container_does_not_wait_again() -> None:
    target = Target("+")
    assert await target.watched("livenessProbe", 11, {"initialDelaySeconds": 30}, ran_for_s=25) == [5]


async def test_early_failures_are_asked_again_soon_and_not_counted() -> None:
    target = Target("-----+")
    asked = await target.watched("startupProbe", 12, {"failureThreshold": 2})
    assert asked == [0, 0.05, 0.15, 0.35, 0.75, 10.75]
    assert target.outcomes == ["undecided", "success"]


async def test_a_world_that_is_away_proves_nothing() -> None:
    target = Target("??-")
    await target.watched("livenessProbe", 45, {"failureThreshold": 2})
    assert target.outcomes == ["undecided", "failure", "failure"]


async def test_exec_handlers(bench: Any, make_pod: Any) -> None:
    pod = PodSpec(make_pod("app"))
    handlers = Handlers(bench.world)
    await bench.world.request("pod.create", pod=pod.uid)
    await bench.world.request("container.start", pod=pod.uid, container="app", attempt=0)
    bench.world.commands = {"no": 3}

    async def run(argv: list[str]) -> Verdict:
        return await handlers.run(pod, pod.apps[0], {"exec": {"command": argv}}, "127.64.0.1", 1)

    assert await run(["yes"]) == Verdict(True)
    assert await run(["no"]) == Verdict(False, "exit code 3")


async def test_sleep_handler(bench: Any, make_pod: Any) -> None:
    pod = PodSpec(make_pod("app"))
    began = anyio.current_time()
    assert await Handlers(bench.world).run(pod, pod.apps[0], {"sleep": {"seconds": 5}}, "127.64.0.1", math.inf)
    assert anyio.current_time() - began == 5


def test_named_ports(make_pod: Any) -> None:
    container = PodSpec(make_pod({"name": "app", "ports": [{"name": "web", "containerPort": 80}]})).apps[0]
    assert (port_of(container, "web"), port_of(container, 81), port_of(container, "82")) == (80, 81, 82)
    with pytest.raises(InvalidSpec, match="no port named 'ssh'"):
        port_of(container, "ssh")
