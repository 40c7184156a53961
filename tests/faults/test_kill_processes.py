"""kill -9 of every process of `headrace up` while jobs run: nothing is lost, nothing is billed twice, nothing stays.

Each case is compared with what an undisturbed run gives; only killing a world may cost the job an attempt (NodeLost).
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from typing import Any

import psutil
import pytest
from tests.installation import Installation, free_port

WORK = "i=0; while [ $i -lt {seconds}0 ]; do echo line $i; i=$((i+1)); sleep 0.1; done"
SECONDS = 4
LONG_S = 12
"""Of a job that must not end by itself meanwhile: on a busy machine a command takes seconds to begin."""


def submit(installation: Installation, name: str, seconds: int = SECONDS) -> None:
    """Run two workers for some seconds; their command names the installation, so that leftovers are found."""
    command = ["sh", "-c", f"{WORK.format(seconds=seconds)} # {installation.home}"]
    installation.run("run", "--name", name, "-w", "2", "--memory", "128Mi", "--detach", "--", *command)
    installation.run("wait", f"trainjob/{name}", "--for", "phase=Running", "--timeout", "30s")


def finished(installation: Installation, name: str) -> dict[str, Any]:
    installation.run("wait", f"trainjob/{name}", "--for", "phase=Succeeded,Failed", "--timeout", "150s")
    job: dict[str, Any] = installation.json("get", "trainjob", name)
    return job


def check_bill(installation: Installation, name: str) -> int:
    """Check that every pod is billed once, those deleted with their gang too, and that the replay is equal."""
    shown = installation.json("show", name)
    rows = installation.json("usage", "--by", "span", "--job", name)["rows"]
    billed = [row["pod"] for row in rows]
    assert len(set(billed)) == len(billed)
    assert {pod["metadata"]["name"] for pod in shown["pods"]} <= set(billed)
    assert len(billed) == 2 * len(shown["job"]["status"]["attempts"])
    assert all(row["end"] for row in rows)
    assert installation.json("usage", "--replay")["equal"] is True
    return sum(int(row["seconds"]) for row in rows)


def check_logs(installation: Installation, name: str) -> None:
    """Check that both workers' logs are whole: nothing lost, nothing twice."""
    said = installation.run("logs", name).stdout.splitlines()
    for worker in ("worker-0", "worker-1"):
        lines = [line.split("] ", 1)[1] for line in said if line.startswith(f"[{worker}]")]
        assert lines == [f"line {i}" for i in range(40)]


@pytest.mark.parametrize("victim", ["control", "node", "supervisor"])
def test_a_job_survives_the_death_of(victim: str, installation: Installation) -> None:
    moments = random.Random(f"seed {victim}")
    installation.up()
    pid = installation.pid(victim)
    submit(installation, "a")
    time.sleep(moments.uniform(0, 2))
    os.kill(pid, signal.SIGKILL)
    if victim == "supervisor":
        time.sleep(moments.uniform(0, 1))
        installation.up()
    job = finished(installation, "a")
    assert job["status"]["phase"] == "Succeeded"
    assert len(job["status"]["attempts"]) == 1, "no attempt was lost"
    check_logs(installation, "a")
    assert 2 * SECONDS - 2 <= check_bill(installation, "a") <= 2 * SECONDS + 4
    submit(installation, "b")
    assert finished(installation, "b")["status"]["phase"] == "Succeeded", "it works on"


def test_what_a_killed_supervisor_left_keeps_its_port_and_no_other_is_promised(installation: Installation) -> None:
    installation.up()
    server = installation.json("up")["server"]
    os.kill(installation.pid("supervisor"), signal.SIGKILL)
    refused = installation.run("up", "--port", str(free_port()), check=False)
    assert refused.returncode == 73
    assert "runs already" in refused.stderr
    taken_over = installation.json("up")
    assert taken_over["server"] == server
    assert "taken over" in " ".join(taken_over["warnings"])
    assert installation.json("get", "nodes")


def test_pods_of_a_killed_world_are_lost_billed_to_the_last_proven_instant_and_tried_again(
    installation: Installation,
) -> None:
    installation.up()
    world = installation.pid("world-own")
    submit(installation, "a", LONG_S)
    time.sleep(random.Random("seed world").uniform(0.5, 2))
    os.kill(world, signal.SIGKILL)
    job = finished(installation, "a")
    assert job["status"]["phase"] == "Succeeded"
    assert [attempt["outcome"] for attempt in job["status"]["attempts"]] == ["NodeLost", "Succeeded"]
    check_bill(installation, "a")


def test_all_at_once_and_a_new_start(installation: Installation) -> None:
    installation.up()
    submit(installation, "a", LONG_S)
    for process in installation.processes():
        with contextlib.suppress(psutil.NoSuchProcess):  # it went down with one killed before
            process.kill()
    installation.up()
    job = finished(installation, "a")
    assert job["status"]["phase"] == "Succeeded"
    assert job["status"]["attempts"][0]["outcome"] == "NodeLost"
    check_bill(installation, "a")


def test_down_while_a_job_runs_leaves_nothing_and_up_takes_it_up_again(installation: Installation) -> None:
    installation.up()
    submit(installation, "a")
    installation.run("down")
    assert installation.processes() == []
    assert installation.mounts() == []
    installation.up()
    assert finished(installation, "a")["status"]["phase"] in {"Succeeded", "Failed"}
    check_bill(installation, "a")
