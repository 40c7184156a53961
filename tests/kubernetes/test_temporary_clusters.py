"""Clusters of runs that are ended from outside: SIGTERM takes them down at once, and after SIGKILL the next run does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from tests.kubernetes.cluster import programs
from tests.kubernetes.cluster.own import OwnCluster, leftovers
from tests.kubernetes.cluster.place import Place
from tests.kubernetes.cluster.temporary import remove_abandoned, temporary
from tests.kubernetes.fixtures import made_or_skipped

REPOSITORY = Path(__file__).parents[2]
WITHIN_S = 120.0
_BENCHMARK = """
from pathlib import Path
import sys, time
from bench.clusters import sites
from tests.interruption import interruptible
with interruptible(), sites.own_cluster(Path(sys.argv[1])):
    time.sleep(600)
"""


@contextmanager
def running(*words: str | Path) -> Iterator[subprocess.Popen[bytes]]:
    environment = {name: value for name, value in os.environ.items() if name not in {"KUBECONFIG", "CI"}}
    command = [sys.executable, *words]
    with subprocess.Popen(
        command, cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def await_cluster(directory: Path, process: subprocess.Popen[bytes]) -> Place:
    """Return the place of a cluster once its API server runs."""
    end = time.monotonic() + WITHIN_S
    while not OwnCluster(directory).runs:
        assert process.poll() is None, process.communicate()[0].decode()
        assert time.monotonic() < end, f"no cluster in {directory} within {WITHIN_S:g} s"
        time.sleep(0.05)
    return msgspec.json.decode((directory / "place.json").read_bytes(), type=Place)


@pytest.fixture(autouse=True)
def buildable() -> None:
    made_or_skipped(programs.control_programs)


def a_run_of_tests(base: Path) -> list[str | Path]:
    case = "tests/kubernetes/test_definitions.py"
    return ["-m", "pytest", "-q", "--kubernetes", "-p", "no:cacheprovider", "--basetemp", base, case]


@pytest.mark.parametrize("what", ["tests", "a benchmark"])
def test_sigterm_takes_the_cluster_down(what: str, tmp_path: Path) -> None:
    if what == "tests":
        words, directory = a_run_of_tests(tmp_path / "base"), tmp_path / "base" / "kubernetes0" / "cluster"
    else:
        words, directory = ["-c", _BENCHMARK, tmp_path], tmp_path / "cluster"
    with running(*words) as process:
        place = await_cluster(directory, process)
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=WITHIN_S)
    assert process.returncode != 0
    assert b"KeyboardInterrupt" in said
    assert not leftovers(place)
    assert not directory.exists()


def test_what_a_killed_run_left_is_removed_by_the_next_and_what_runs_is_left_alone(tmp_path: Path) -> None:
    with temporary(tmp_path / "mine") as mine, running("-c", _BENCHMARK, tmp_path) as process:
        mine.start()
        place = await_cluster(tmp_path / "cluster", process)
        assert not {tmp_path / "mine", tmp_path / "cluster"} & {*remove_abandoned()}
        process.kill()
        process.wait()
        assert leftovers(place)
        assert tmp_path / "cluster" in remove_abandoned()
        assert not leftovers(place)
        assert mine.runs
    assert tmp_path / "cluster" not in remove_abandoned()
