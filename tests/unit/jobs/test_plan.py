"""The life of a TrainJob by table: every step is planned from what is there, and planning it again adds nothing."""

from __future__ import annotations

import copy
import datetime as dt
from typing import Any

import pytest

from headrace.clock import format_time
from headrace.jobs.plan import Observed, Plan, plan
from headrace.spec.kind import Doc, Json
from headrace.spec.kinds import POD, TRAIN_JOB
from headrace.spec.names import ATTEMPT_LABEL, JOB_LABEL

NOW = dt.datetime(2026, 11, 23, 12, tzinfo=dt.UTC)


def job(status: Json | None = None, **spec: Any) -> Doc[Any]:
    return Doc(
        TRAIN_JOB,
        {
            "metadata": {"name": "digits", "namespace": "vision", "uid": "j1", "generation": 1, "resourceVersion": "7"},
            "spec": {"command": ["python", "train.py"], "workers": 2, **spec},
            "status": status or {},
        },
    )


def placed(attempt: int = 1, decided: dt.datetime = NOW, **more: Any) -> Json:
    placement = {"pool": "cloud", "attempt": attempt, "decidedAt": format_time(decided)}
    return {"phase": "Queued", "placement": placement, **more}


def pod(index: int, phase: str = "Pending", *, attempt: int = 1, deleting: bool = False, **status: Any) -> Doc[Any]:
    meta: Json = {
        "name": f"digits-{attempt}-worker-{index}",
        "namespace": "vision",
        "uid": f"p{attempt}{index}",
        "labels": {JOB_LABEL: "digits", ATTEMPT_LABEL: str(attempt)},
    }
    if deleting:
        meta["deletionTimestamp"] = format_time(NOW)
    return Doc(POD, {"metadata": meta, "spec": {}, "status": {"phase": phase, **status}})


def exited(code: int, *, container: str = "main", reason: str = "Error", message: str = "") -> Json:
    state = {"exitCode": code, "reason": reason, "finishedAt": "2026-11-23T12:00:00Z", "message": message}
    return {"containerStatuses": [{"name": container, "state": {"terminated": state}}]}


def step(doc: Doc[Any], *pods: Doc[Any], now: dt.datetime = NOW, timeout_s: float = 300) -> tuple[Plan, Doc[Any]]:
    """Plan once, check that the plan is stable, and return it with the job as it then is."""
    result = plan(Observed(job=doc, pods=pods, start_timeout_s=timeout_s), now)
    after = Doc(TRAIN_JOB, {**doc.raw, "status": copy.deepcopy(result.status)})
    again = plan(Observed(job=after, pods=pods, start_timeout_s=timeout_s), now)
    assert again.status == result.status, "planning again changes nothing"
    assert again.notices == (), "nothing is announced twice"
    return result, after


def names(found: Plan) -> list[str]:
    return [f"{member.role.name}-{member.index}" for member in found.create]


def test_a_new_job_is_queued_and_has_no_pods() -> None:
    result, after = step(job())
    assert (after.status["phase"], after.status["queuedAt"]) == ("Queued", "2026-11-23T12:00:00Z")
    assert (result.create, result.delete) == ((), ())


def test_a_placed_job_gets_all_its_pods_at_once() -> None:
    result, after = step(job(placed()))
    assert names(result) == ["worker-0", "worker-1"]
    assert after.status["phase"] == "Starting"
    assert after.status["attempts"] == [{"attempt": 1, "pool": "cloud"}]


def test_pods_that_a_crash_left_out_are_made_and_the_others_are_not_made_again() -> None:
    result, _ = step(job(placed()), pod(1))
    assert names(result) == ["worker-0"]


def test_it_runs_when_all_workers_run() -> None:
    _, half = step(job(placed()), pod(0, "Running"), pod(1))
    assert half.status["phase"] == "Starting"
    result, full = step(half, pod(0, "Running"), pod(1, "Running"))
    assert full.status["phase"] == "Running"
    assert full.status["attempts"][-1]["startedAt"] == "2026-11-23T12:00:00Z"
    assert [notice.reason for notice in result.notices] == ["Running"]


def test_success_needs_all_workers() -> None:
    _, running = step(job(placed()), pod(0, "Running"), pod(1, "Running"))
    _, half = step(running, pod(0, "Succeeded"), pod(1, "Running"))
    assert half.status["phase"] == "Running"
    _, done = step(half, pod(0, "Succeeded"), pod(1, "Succeeded"))
    assert (done.status["phase"], done.status["exitCode"]) == ("Succeeded", 0)
    assert done.status["finishedAt"] == "2026-11-23T12:00:00Z"


def test_a_worker_that_fails_ends_its_gang_and_passes_its_exit_code_on() -> None:
    _, running = step(job(placed()), pod(0, "Running"), pod(1, "Running"))
    failed = pod(1, "Failed", **exited(3, message="Traceback\nValueError: bad shape\n"))
    result, closing = step(running, pod(0, "Running"), failed)
    assert [p.name for p in result.delete] == ["digits-1-worker-0"]
    assert closing.status["phase"] == "Running", "not over while a worker may still write"
    _, done = step(closing, pod(0, "Failed", deleting=True), failed)
    assert (done.status["phase"], done.status["exitCode"], done.status["reason"]) == ("Failed", 3, "Error")
    assert done.status["message"] == "digits-1-worker-1 exited with code 3: ValueError: bad shape"


def test_a_set_up_container_that_fails_is_named() -> None:
    fetch = {"initContainerStatuses": exited(1, container="code", message="no such code")["containerStatuses"]}
    _, closing = step(job(placed(), workers=1), pod(0, "Failed", **fetch))
    assert closing.status["message"] == "code of digits-1-worker-0 exited with code 1: no such code"


def test_memory_is_named_as_the_reason() -> None:
    _, done = step(job(placed(), workers=1), pod(0, "Failed", **exited(137, reason="OOMKilled")))
    assert (done.status["reason"], done.status["exitCode"]) == ("OOMKilled", 137)
    assert "more memory than its limit" in done.status["message"]


def test_a_lost_node_means_another_attempt_once_the_old_pods_are_dead() -> None:
    _, running = step(job(placed()), pod(0, "Running"), pod(1, "Running"))
    lost = pod(0, "Failed", reason="NodeLost", message="node cloud was lost")
    _, closing = step(running, lost, pod(1, "Running"))
    assert closing.status["placement"]["attempt"] == 1
    _, again = step(closing, lost, pod(1, "Failed", deleting=True))
    assert (again.status["phase"], again.status["placement"]) == ("Queued", None)
    assert again.status["attempts"][-1]["outcome"] == "NodeLost"


def test_retries_end() -> None:
    history = [
        {"attempt": n, "pool": "own", "outcome": "NodeLost", "endedAt": "2026-11-23T11:00:00Z"} for n in (1, 2, 3)
    ]
    _, last = step(job(placed(4, attempts=history)), pod(0, "Failed", attempt=4, reason="NodeLost"))
    assert last.status["phase"] == "Failed"


@pytest.mark.parametrize(("on", "phase"), [(["Failed"], "Queued"), (["NodeLost"], "Failed")])
def test_failing_by_itself_is_retried_only_when_asked(on: list[str], phase: str) -> None:
    _, after = step(job(placed(), workers=1, retry={"limit": 1, "on": on}), pod(0, "Failed", **exited(1)))
    assert after.status["phase"] == phase


def test_a_new_attempt_waits_until_nothing_of_the_old_one_lives() -> None:
    history = [{"attempt": 1, "pool": "own", "outcome": "NodeLost"}]
    result, fenced = step(job(placed(2, attempts=history)), pod(0, "Running", attempt=1))
    assert result.create == ()
    assert [p.name for p in result.delete] == ["digits-1-worker-0"]
    assert fenced.status["reason"] == "Fencing"
    result, _ = step(fenced, pod(0, "Failed", attempt=1))
    assert names(result) == ["worker-0", "worker-1"]


def test_a_gang_that_does_not_start_in_time_goes_back_to_the_queue() -> None:
    late = NOW + dt.timedelta(seconds=301)
    _, starting = step(job(placed()), pod(0, "Running"), pod(1))
    unschedulable = {"type": "PodScheduled", "status": "False", "message": "0/1 nodes are available"}
    result, closing = step(starting, pod(0, "Running"), pod(1, conditions=[unschedulable]), now=late)
    assert len(result.delete) == 2
    assert closing.status["attempts"][-1]["outcome"] == "StartTimeout"
    assert "0/1 nodes are available" in closing.status["attempts"][-1]["message"]
    _, queued = step(closing, now=late)
    assert (queued.status["phase"], queued.status["placement"]) == ("Queued", None)


UNMOUNTED: Json = {
    "type": "PodReadyToStartContainers",
    "status": "False",
    "reason": "NotPrepared",
    "message": "MountVolume failed: no such volume",
}
CRASHING: Json = {
    "name": "fluid-fuse-0",
    "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}},
    "lastState": {"terminated": {"exitCode": 1, "message": "wrong key\n"}},
}


@pytest.mark.parametrize(
    ("status", "reason", "says"),
    [
        ({"conditions": [UNMOUNTED]}, "NotPrepared", "digits-1-worker-1: MountVolume failed: no such volume"),
        (
            {"initContainerStatuses": [CRASHING]},
            "CrashLoopBackOff",
            "fluid-fuse-0 of digits-1-worker-1: CrashLoopBackOff. It said: wrong key",
        ),
    ],
)
def test_a_gang_that_does_not_start_says_why_until_it_does(status: Json, reason: str, says: str) -> None:
    pods = pod(0, "Running"), pod(1, **status)
    early, starting = step(job(placed()), *pods)
    assert (starting.status["reason"], starting.status["message"]) == ("", "")
    assert early.again_after_s == 5
    later = NOW + dt.timedelta(seconds=5)
    result, waiting = step(starting, *pods, now=later)
    assert (waiting.status["phase"], waiting.status["reason"], waiting.status["message"]) == ("Starting", reason, says)
    assert [(n.type, n.reason, n.message) for n in result.notices] == [("Warning", reason, f"Does not start: {says}")]
    _, running = step(waiting, pod(0, "Running"), pod(1, "Running"), now=later)
    assert (running.status["phase"], running.status["message"]) == ("Running", "")


def test_a_gang_that_waits_for_nothing_known_only_starts() -> None:
    fetching: Json = {"initContainerStatuses": [{"name": "code", "state": {"waiting": {"reason": "PodInitializing"}}}]}
    _, starting = step(job(placed()), pod(0), pod(1, **fetching), now=NOW + dt.timedelta(seconds=60))
    assert (starting.status["phase"], starting.status["reason"]) == ("Starting", "")


def test_it_says_when_to_look_again_for_a_deadline() -> None:
    result, _ = step(job(placed()), pod(0))
    assert result.again_after_s == pytest.approx(300)


def test_the_longest_duration_ends_it_for_good() -> None:
    status = placed(attempts=[{"attempt": 1, "pool": "cloud", "startedAt": "2026-11-23T11:00:00Z"}])
    result, closing = step(job(status, maxDuration="30m"), pod(0, "Running"), pod(1, "Running"))
    assert len(result.delete) == 2
    _, done = step(closing, pod(0, "Failed"), pod(1, "Failed"))
    assert (done.status["phase"], done.status["reason"]) == ("Failed", "DeadlineExceeded")


def test_stopping_ends_the_pods_first_and_going_on_queues_again() -> None:
    _, running = step(job(placed()), pod(0, "Running"), pod(1, "Running"))
    stopped = Doc(TRAIN_JOB, {**running.raw, "spec": {**running.spec, "suspend": True}})
    result, closing = step(stopped, pod(0, "Running"), pod(1, "Running"))
    assert len(result.delete) == 2
    _, suspended = step(closing, pod(0, "Failed"), pod(1, "Succeeded"))
    assert (suspended.status["phase"], suspended.status["placement"]) == ("Suspended", None)
    resumed = Doc(TRAIN_JOB, {**suspended.raw, "spec": {**suspended.spec, "suspend": False}})
    _, queued = step(resumed, pod(0, "Failed"), pod(1, "Succeeded"))
    assert queued.status["phase"] == "Queued"


def test_a_pod_deleted_from_outside_ends_the_attempt() -> None:
    _, running = step(job(placed()), pod(0, "Running"), pod(1, "Running"))
    _, closing = step(running, pod(0, "Running"))
    assert closing.status["attempts"][-1]["message"] == "Pod digits-1-worker-1 was deleted from outside."


def test_a_job_that_is_being_deleted_is_left_to_the_garbage_collector() -> None:
    doc = job(placed())
    doc.raw["metadata"]["deletionTimestamp"] = format_time(NOW)
    result, _ = step(doc, pod(0, "Running"))
    assert (result.create, result.delete) == ((), ())
