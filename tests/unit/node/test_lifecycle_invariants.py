"""What must hold of every pod, whatever happens to it and in whatever order."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace.node.lifecycle import LIVENESS_FAILED

HOOK = {"exec": {"command": ["true"]}}
PROBE = {"exec": {"command": ["true"]}}


@st.composite
def pods(draw: st.DrawFn) -> dict[str, Any]:
    def one(name: str, **more: Any) -> dict[str, Any]:
        entry = {"name": name, **more}
        if draw(st.booleans()):
            entry["lifecycle"] = dict.fromkeys(
                draw(st.sets(st.sampled_from(["postStart", "preStop"]), min_size=1)), HOOK
            )
        return entry

    inits = []
    for index in range(draw(st.integers(0, 3))):
        if draw(st.booleans()):
            more = {"startupProbe": PROBE} if draw(st.booleans()) else {}
            inits.append(one(f"s{index}", restartPolicy="Always", **more))
        else:
            inits.append({"name": f"i{index}"})
    apps = [one(f"a{index}") for index in range(draw(st.integers(1, 2)))]
    policy = draw(st.sampled_from(["Always", "OnFailure", "Never"]))
    return {"apps": apps, "inits": tuple(inits), "restartPolicy": policy, "terminationGracePeriodSeconds": 20}


events = st.lists(
    st.tuples(
        st.sampled_from(["exit", "exit", "fail", "hook", "probe", "liveness", "wait", "long-wait", "delete"]),
        st.integers(0, 4),
    ),
    max_size=40,
)


def happen(pod: Any, what: str, which: int) -> list[str]:
    names = sorted(pod.pod.by_name)
    name = names[which % len(names)]
    state = pod.record.of(name)
    match what:
        case "exit" | "fail" if state.is_running:
            return list(pod.exits(name, 1 if what == "fail" else 0))
        case "hook" if state.post_start == "running" and state.is_running:
            return list(pod.hook_ends(name, "postStart"))
        case "hook" if state.stop is not None and state.stop.pre_stop == "running":
            return list(pod.hook_ends(name, "preStop"))
        case "probe" if state.is_running:
            return list(pod.probed_started(name))
        case "liveness" if state.is_running:
            return list(pod.probe_kills(name, LIVENESS_FAILED))
        case "wait":
            return list(pod.wait(3))
        case "long-wait":
            return list(pod.wait(90))
        case "delete":
            return list(pod.delete(20))
    return []


@given(shape=pods(), story=events)
@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
def test_invariants(simulate: Callable[..., Any], shape: dict[str, Any], story: list[tuple[str, int]]) -> None:
    apps = shape.pop("apps")
    pod = simulate(*apps, **shape)
    done = list(pod.last)
    for what, which in story:
        already_ending = pod.record.ending is not None
        new = happen(pod, what, which)
        done += new
        if already_ending:
            assert not [step for step in new if step.startswith("start ")], "started while the pod ends"
        check(pod, done)
    pod.delete(20)
    for _ in range(100):
        if pod.record.released:
            break
        pod.wait(5)
        for name in sorted(pod.pod.by_name):
            stop = pod.record.of(name).stop
            if stop is not None and (stop.kill_sent or stop.term_sent_at):
                pod.exits(name, signal=9 if stop.kill_sent else 15)
    assert pod.record.released, "a deleted pod whose processes obey is released"
    assert pod.phase in {"Succeeded", "Failed"}


def check(pod: Any, done: list[str]) -> None:
    starts = [step for step in done if step.startswith("start ")]
    assert len(starts) == len(set(starts)), "an attempt was started twice"
    assert not pod.record.released or not pod.record.any_running
    states = {name: pod.record.of(name) for name in pod.pod.by_name}
    for name, state in states.items():
        attempts = [run.attempt for run in state.runs]
        assert attempts == list(range(len(attempts))), "an attempt is missing"
        assert sum(run.is_running for run in state.runs) <= 1
        if state.started or state.ready:
            assert state.is_running
        if state.current and not state.is_running and name.startswith("i") and state.current.succeeded:
            assert f"start {name}/{len(attempts)}" not in starts, "a finished init container ran again"
    order = [c.name for c in pod.pod.inits]
    for earlier, later in itertools.pairwise(order):
        assert not states[later].runs or states[earlier].runs, "init containers ran out of order"
    first_apps = [i for i, step in enumerate(done) if step.startswith("start a")]
    for init in (c.name for c in pod.pod.inits if c.role == "init"):
        if first_apps:
            assert any(run.succeeded for run in states[init].runs)
    phase = pod.phase
    assert (phase in {"Succeeded", "Failed"}) <= (not pod.record.any_running), "a terminal pod still runs"
    assert pod.again_at >= pod.now or pod.again_at == float("inf")
