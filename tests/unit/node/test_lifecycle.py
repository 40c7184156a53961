"""Kubernetes' documented pod lifecycle, as a table of short stories."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

import pytest

from headrace.clock import parse_time
from headrace.node.lifecycle import LIVENESS_FAILED, STARTUP_FAILED
from headrace.node.record import NODE_LOST

Simulate = Callable[..., Any]

HOOK = {"exec": {"command": ["true"]}}


def sidecar(name: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, "restartPolicy": "Always", **fields}


def probed(name: str) -> dict[str, Any]:
    return sidecar(name, startupProbe={"exec": {"command": ["true"]}})


class TestStart:
    def test_app_containers_start_together(self, simulate: Simulate) -> None:
        assert simulate("a", "b").last == ["start a/0", "start b/0"]

    def test_init_containers_run_one_after_another(self, simulate: Simulate) -> None:
        pod = simulate("app", inits=("i1", "i2"))
        assert pod.last == ["start i1/0"]
        assert pod.exits("i1") == ["start i2/0"]
        assert pod.exits("i2") == ["start app/0"]

    def test_sidecar_is_started_before_the_next_and_not_waited_for(self, simulate: Simulate) -> None:
        pod = simulate("app", inits=(sidecar("s"), "i"))
        assert pod.last == ["start s/0", "start i/0"]
        assert pod.exits("i") == ["start app/0"]

    def test_startup_probe_of_a_sidecar_gates_everything_after_it(self, simulate: Simulate) -> None:
        pod = simulate("app", inits=(probed("s"), "i"))
        assert pod.last == ["start s/0"]
        assert pod.wait(600) == []
        assert pod.probed_started("s") == ["start i/0"]
        assert pod.exits("i") == ["start app/0"]

    def test_post_start_of_a_sidecar_gates_too(self, simulate: Simulate) -> None:
        pod = simulate("app", inits=(sidecar("s", lifecycle={"postStart": HOOK}),))
        assert pod.last == ["start s/0", "postStart s"]
        assert pod.hook_ends("s", "postStart") == ["start app/0"]

    def test_post_start_holds_back_the_next_app_container(self, simulate: Simulate) -> None:
        pod = simulate({"name": "a", "lifecycle": {"postStart": HOOK}}, "b")
        assert pod.last == ["start a/0", "postStart a"]
        assert pod.hook_ends("a", "postStart") == ["start b/0"]

    def test_start_trouble_is_retried_with_growing_pauses(self, simulate: Simulate) -> None:
        pod = simulate("app", inits=("i",))
        pod.exits("i", 1)
        state = pod.record.of("i")
        pod.exits("i", 1)
        state.note_trouble("CreateContainerError", "no such directory", pod.now + 10)
        assert pod.wait(10.5) == []
        assert pod.wait(1) == ["start i/2"]


class TestRestart:
    @pytest.mark.parametrize(
        ("policy", "code", "restarted"),
        [
            ("Always", 0, True),
            ("Always", 1, True),
            ("OnFailure", 0, False),
            ("OnFailure", 1, True),
            ("Never", 0, False),
            ("Never", 1, False),
        ],
    )
    def test_restart_policy_of_an_app_container(
        self, simulate: Simulate, policy: str, code: int, restarted: bool
    ) -> None:
        pod = simulate("app", restartPolicy=policy)
        assert ("start app/1" in pod.exits("app", code)) is restarted

    @pytest.mark.parametrize(("policy", "ends"), [("Always", False), ("OnFailure", False), ("Never", True)])
    def test_failed_init_container(self, simulate: Simulate, policy: str, ends: bool) -> None:
        pod = simulate("app", inits=("i",), restartPolicy=policy)
        done = pod.exits("i", 2)
        assert done == (["end InitFailed", "release"] if ends else ["start i/1"])
        assert pod.phase == ("Failed" if ends else "Pending")

    @pytest.mark.parametrize("policy", ["Always", "OnFailure", "Never"])
    @pytest.mark.parametrize("code", [0, 1])
    def test_sidecars_are_always_restarted(self, simulate: Simulate, policy: str, code: int) -> None:
        pod = simulate("app", inits=(sidecar("s"),), restartPolicy=policy)
        assert pod.exits("s", code) == ["start s/1"]
        assert pod.phase == "Running"

    def test_back_off_doubles_from_ten_seconds_to_five_minutes(self, simulate: Simulate) -> None:
        pod = simulate("app")
        pauses = []
        for _ in range(8):
            pod.exits("app", 1)
            before = pod.now
            while not pod.record.of("app").is_running:
                pod.wait(1)
            pauses.append(round(pod.now - before))
        assert pauses == [0, 10, 20, 40, 80, 160, 300, 300]

    def test_back_off_is_forgotten_after_ten_minutes_of_running(self, simulate: Simulate) -> None:
        pod = simulate("app")
        pod.exits("app", 1)
        pod.exits("app", 1)
        pod.wait(10)
        pod.wait(601)
        assert pod.exits("app", 1) == ["start app/3"]
        assert pod.exits("app", 1) == []
        assert pod.wait(9) == []
        assert pod.wait(1) == ["start app/4"]

    def test_back_off_survives_a_replay_of_the_journal(self, simulate: Simulate) -> None:
        pod = simulate("app")
        pod.exits("app", 1)
        pod.exits("app", 1)
        runs = list(pod.record.of("app").runs)
        replayed = type(pod.record.of("app"))()
        for _ in range(2):
            for run in runs:
                replayed.note_started(run.attempt, run.started_ns, starts_ready=True, starts_started=True)
                replayed.note_exited(run.attempt, run.finished_ns, exit_code=run.exit_code)
        assert replayed.backoff_s == pod.record.of("app").backoff_s
        assert replayed.may_start_at() == pod.record.of("app").may_start_at()
        assert len(replayed.runs) == 2

    def test_app_is_not_restarted_while_a_probed_sidecar_is_down(self, simulate: Simulate) -> None:
        pod = simulate("app", inits=(probed("s"),))
        pod.probed_started("s")
        assert pod.exits("s", 1) == ["start s/1"]
        assert pod.exits("app", 1) == []
        assert pod.probed_started("s") == ["start app/1"]

    def test_crashed_sidecar_holds_back_what_has_not_started_yet(self, simulate: Simulate) -> None:
        pod = simulate("app", inits=(probed("s"), "i"))
        pod.probed_started("s")
        pod.exits("s", 1)
        assert pod.exits("i") == []
        assert pod.probed_started("s") == ["start app/0"]

    @pytest.mark.parametrize("reason", [LIVENESS_FAILED, STARTUP_FAILED])
    def test_a_failed_probe_restarts_even_when_the_exit_code_is_zero(self, simulate: Simulate, reason: str) -> None:
        pod = simulate("app", restartPolicy="OnFailure")
        assert pod.probe_kills("app", reason) == ["TERM app"]
        assert pod.exits("app", 0) == ["start app/1"]

    def test_a_failed_probe_ends_a_pod_that_never_restarts(self, simulate: Simulate) -> None:
        pod = simulate("app", restartPolicy="Never")
        pod.probe_kills("app", LIVENESS_FAILED, grace_s=5)
        assert pod.wait(5) == ["KILL app"]
        assert pod.exits("app", signal=9) == ["end Completed", "release"]
        assert pod.phase == "Failed"


class TestEnd:
    def test_completed_pod_ends_its_sidecars_in_reverse_order(self, simulate: Simulate) -> None:
        pod = simulate("app", inits=(sidecar("s1"), sidecar("s2")), restartPolicy="Never")
        assert pod.exits("app") == ["end Completed", "TERM s2"]
        assert pod.phase == "Running"
        assert pod.exits("s2", signal=15) == ["TERM s1"]
        assert pod.exits("s1", 3) == ["release"]
        assert pod.phase == "Succeeded"

    def test_deletion_ends_apps_first_then_sidecars(self, simulate: Simulate) -> None:
        pod = simulate("a", "b", inits=(sidecar("s1"), sidecar("s2")))
        assert pod.delete(30) == ["end Deleted", "TERM a", "TERM b"]
        assert pod.exits("a") == []
        assert pod.exits("b") == ["TERM s2"]
        assert pod.exits("s2") == ["TERM s1"]
        assert pod.exits("s1") == ["release"]

    def test_sidecars_get_the_rest_of_the_grace_and_at_least_two_seconds(self, simulate: Simulate) -> None:
        pod = simulate("app", inits=(sidecar("s"),))
        pod.delete(10)
        assert pod.wait(9.9) == []
        assert pod.wait(0.1) == ["KILL app", "TERM s"]
        assert pod.wait(1.9) == []
        assert pod.wait(0.1) == ["KILL s"]
        pod.exits("app", signal=9)
        assert pod.exits("s", signal=9) == ["release"]

    def test_pre_stop_hooks_run_before_sigterm_and_within_the_grace(self, simulate: Simulate) -> None:
        pod = simulate({"name": "a", "lifecycle": {"preStop": HOOK}}, {"name": "b", "lifecycle": {"preStop": HOOK}})
        assert pod.delete(10) == ["end Deleted", "preStop a", "preStop b"]
        pod.wait(4)
        assert pod.hook_ends("a", "preStop") == ["TERM a"]
        assert pod.wait(6) == ["KILL a", "TERM b"]
        assert pod.wait(2) == ["KILL b"]

    def test_pre_stop_of_a_sidecar_runs_at_once_but_its_sigterm_waits_its_turn(self, simulate: Simulate) -> None:
        pod = simulate("app", inits=(sidecar("s", lifecycle={"preStop": HOOK}),))
        assert pod.delete(30) == ["end Deleted", "TERM app", "preStop s"]
        assert pod.hook_ends("s", "preStop") == []
        assert pod.exits("app") == ["TERM s"]

    def test_a_second_deletion_may_shorten_the_grace(self, simulate: Simulate) -> None:
        pod = simulate("app")
        pod.delete(600)
        pod.wait(5)
        assert pod.delete(1) == ["end Deleted"]
        assert pod.wait(1) == ["KILL app"]

    def test_nothing_is_started_once_a_pod_ends(self, simulate: Simulate) -> None:
        pod = simulate("app", inits=(sidecar("s"),))
        pod.delete(30)
        assert pod.exits("s", 1) == []
        assert pod.exits("app", 1) == ["release"]

    def test_active_deadline(self, simulate: Simulate) -> None:
        pod = simulate("app", activeDeadlineSeconds=60, terminationGracePeriodSeconds=5)
        assert pod.wait(59) == []
        assert pod.wait(1) == ["end DeadlineExceeded", "TERM app"]
        assert pod.exits("app", 0) == ["release"]
        assert (pod.phase, pod.status["reason"]) == ("Failed", "DeadlineExceeded")

    def test_a_pod_deleted_before_it_ran_is_released_at_once(self, simulate: Simulate) -> None:
        pod = simulate("app", inits=(probed("s"),))
        pod.exits("s", 1)
        pod.exits("s", 1)
        assert pod.delete(30) == ["end Deleted", "release"]
        assert pod.phase == "Failed"


class TestNodeLost:
    def test_running_containers_end_at_the_last_proven_instant(self, simulate: Simulate) -> None:
        pod = simulate("app", inits=(sidecar("s"),))
        pod.wait(100)
        pod.record.note_world_lost(int((pod.now - 40) * 1e9), pod.now)
        assert pod.settle() == ["release"]
        told = pod.status
        assert (told["phase"], told["reason"]) == ("Failed", NODE_LOST)
        ended = told["containerStatuses"][0]["state"]["terminated"]
        assert (ended["reason"], ended["exitCode"]) == (NODE_LOST, 137)
        assert parse_time(ended["finishedAt"]) - parse_time(ended["startedAt"]) == dt.timedelta(seconds=60)

    def test_a_pod_of_which_nothing_ran_is_prepared_again(self, simulate: Simulate) -> None:
        pod = simulate("app")
        fresh = type(pod.record)(namespace="ns", name="p", uid="uid-1", prepared=True)
        fresh.note_world_lost(1, pod.now)
        assert not fresh.prepared
        assert fresh.ending is None

    def test_a_pod_that_had_ended_stays_as_it_ended(self, simulate: Simulate) -> None:
        pod = simulate("app", restartPolicy="Never")
        pod.exits("app")
        pod.record.note_world_lost(int(pod.now * 1e9), pod.now + 1)
        assert pod.phase == "Succeeded"


def test_a_failed_pull_is_a_back_off_after_a_moment_and_tried_again_later(simulate: Simulate) -> None:
    sim = simulate("app")
    sim.record.containers.clear()
    mine = sim.record.of("app")
    pauses = []
    for _ in range(7):
        mine.note_pull_failed("gone", sim.now)
        assert sim.settle() == []
        assert sim.entry("app")["state"]["waiting"] == {"reason": "ErrImagePull", "message": "gone"}
        began, sim.now = sim.now, sim.again_at
        assert mine.note_pull_backs_off("reg/x:1", sim.now)
        assert not mine.note_pull_backs_off("reg/x:1", sim.now)
        said = 'Back-off pulling image "reg/x:1": ErrImagePull: gone'
        assert sim.entry("app")["state"]["waiting"] == {"reason": "ImagePullBackOff", "message": said}
        pauses.append(mine.may_start_at() - began)
        sim.now = mine.may_start_at()
    assert pauses == [10, 20, 40, 80, 160, 300, 300]
    assert sim.settle() == ["start app/0"]
    assert sim.phase == "Running"
