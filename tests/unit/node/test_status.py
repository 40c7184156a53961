"""PodStatus as kubelet words it, and that no attempt is lost between two writes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from headrace.node.lifecycle import LIVENESS_FAILED

Simulate = Callable[..., Any]


def sidecar(name: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, "restartPolicy": "Always", **fields}


PROBE = {"exec": {"command": ["true"]}}


def conditions(pod: Any) -> dict[str, str]:
    return {c["type"]: c["status"] for c in pod.status["conditions"]}


def test_a_running_pod(simulate: Simulate) -> None:
    pod = simulate("app")
    told = pod.status
    assert told["phase"] == "Running"
    assert (told["podIP"], told["hostIP"], told["qosClass"]) == ("127.64.0.1", "127.0.0.1", "BestEffort")
    entry = told["containerStatuses"][0]
    assert entry["state"]["running"]["startedAt"] == told["startTime"]
    assert (entry["ready"], entry["started"], entry["restartCount"]) == (True, True, 0)
    assert entry["containerID"] == "headrace://uid-1/app/0"
    assert set(conditions(pod).values()) == {"True"}
    assert set(conditions(pod)) == {
        "PodReadyToStartContainers",
        "Initialized",
        "Ready",
        "ContainersReady",
        "PodScheduled",
    }


def test_waiting_reasons_during_init(simulate: Simulate) -> None:
    pod = simulate("app", inits=("i1", "i2"))
    assert pod.entry("i2")["state"]["waiting"]["reason"] == "PodInitializing"
    assert pod.entry("app")["state"]["waiting"]["reason"] == "PodInitializing"
    assert pod.phase == "Pending"
    assert conditions(pod)["Initialized"] == "False"
    told = next(c for c in pod.status["conditions"] if c["type"] == "Initialized")
    assert told["message"] == "containers with incomplete status: [i1 i2]"


def test_a_pod_without_init_containers_waits_as_container_creating(simulate: Simulate) -> None:
    pod = simulate("app")
    pod.record.containers.clear()
    assert pod.entry("app")["state"] == {"waiting": {"reason": "ContainerCreating"}}


def test_crash_loop(simulate: Simulate) -> None:
    pod = simulate("app")
    pod.exits("app", 1)
    pod.exits("app", 2)
    entry = pod.entry("app")
    waiting = entry["state"]["waiting"]
    assert waiting["reason"] == "CrashLoopBackOff"
    assert waiting["message"] == "back-off 10s restarting failed container=app pod=p_ns(uid-1)"
    assert entry["lastState"]["terminated"]["exitCode"] == 2
    assert (entry["restartCount"], pod.phase) == (1, "Running")


def test_trouble_is_told_as_waiting(simulate: Simulate) -> None:
    pod = simulate("app")
    pod.record.containers.clear()
    pod.record.of("app").note_trouble("CreateContainerConfigError", 'secret "s" not found', pod.now)
    assert pod.entry("app")["state"]["waiting"] == {
        "reason": "CreateContainerConfigError",
        "message": 'secret "s" not found',
    }
    assert pod.phase == "Pending"


def test_ends_by_exit_signal_and_memory(simulate: Simulate) -> None:
    for happened, told in (
        ({"code": 0}, ("Completed", 0, None)),
        ({"code": 3}, ("Error", 3, None)),
        ({"signal": 9, "oom": True}, ("OOMKilled", 137, 9)),
        ({"signal": 15}, ("Error", 143, 15)),
    ):
        pod = simulate("app", restartPolicy="Never")
        pod.exits("app", **happened)
        ended = pod.entry("app")["state"]["terminated"]
        assert (ended["reason"], ended["exitCode"], ended.get("signal")) == told


def test_readiness_follows_probes_of_apps_and_sidecars(simulate: Simulate) -> None:
    pod = simulate({"name": "app", "readinessProbe": PROBE}, inits=(sidecar("s", startupProbe=PROBE),))
    assert pod.entry("s")["started"] is False
    pod.probed_started("s")
    assert pod.entry("s")["ready"] is True
    assert pod.phase == "Running"
    assert conditions(pod)["Ready"] == "False"
    pod.record.of("app").ready = True
    assert conditions(pod)["Ready"] == "True"
    pod.exits("s", 1)
    assert conditions(pod)["Ready"] == "False"


def test_initialized_stays_true_when_a_sidecar_restarts(simulate: Simulate) -> None:
    pod = simulate("app", inits=(sidecar("s", startupProbe=PROBE),))
    pod.probed_started("s")
    pod.exits("s", 1)
    assert conditions(pod)["Initialized"] == "True"
    assert pod.phase == "Running"


def test_readiness_gates_wait_for_others(simulate: Simulate) -> None:
    pod = simulate("app", readinessGates=[{"conditionType": "lb/ready"}])
    ready = next(c for c in pod.status["conditions"] if c["type"] == "Ready")
    assert (ready["status"], ready["reason"]) == ("False", "ReadinessGatesNotReady")
    pod.raw["status"] = {"conditions": [{"type": "lb/ready", "status": "True"}]}
    assert conditions(pod)["Ready"] == "True"
    assert conditions(pod)["lb/ready"] == "True"


def test_transition_times_move_only_with_the_status(simulate: Simulate) -> None:
    pod = simulate("app")
    pod.raw["status"] = pod.status
    pod.wait(50)
    assert pod.status["conditions"] == pod.raw["status"]["conditions"]


def test_succeeded_is_told_only_after_the_sidecars_have_ended(simulate: Simulate) -> None:
    pod = simulate("app", inits=(sidecar("s"),), restartPolicy="Never")
    pod.exits("app")
    assert pod.phase == "Running"
    pod.exits("s", 143)
    told = pod.status
    assert told["phase"] == "Succeeded"
    ready = next(c for c in told["conditions"] if c["type"] == "Ready")
    assert ready["reason"] == "PodCompleted"


def test_every_attempt_is_written_though_the_server_was_away(simulate: Simulate) -> None:
    pod = simulate("app", restartPolicy="OnFailure")
    assert pod.entry("app")["restartCount"] == 0
    for code in (1, 2, 3):
        pod.exits("app", code)
        pod.wait(100)
    pod.exits("app", 0)
    seen = []
    for _ in range(10):
        told = pod.next_status()
        entry = told["containerStatuses"][0]
        seen.append((entry["restartCount"], entry["lastState"].get("terminated", {}).get("exitCode"), told["phase"]))
        if told["phase"] == "Succeeded":
            break
        pod.reported = {"app": entry["restartCount"]}
        pod.record.of("app").forget_reported(entry["restartCount"])
    assert seen == [(1, 1, "Running"), (2, 2, "Running"), (3, 3, "Succeeded")]


def test_a_container_killed_by_its_probe_and_restarted(simulate: Simulate) -> None:
    pod = simulate("app")
    pod.probe_kills("app", LIVENESS_FAILED)
    pod.exits("app", signal=15)
    entry = pod.entry("app")
    assert "running" in entry["state"]
    assert entry["lastState"]["terminated"]["exitCode"] == 143
