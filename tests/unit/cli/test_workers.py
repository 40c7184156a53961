"""`logs` and `exec`."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest
import yaml

from headrace.cluster.protocol import ExecResult
from headrace.spec.kind import Ref
from headrace.spec.kinds import POD, TRAIN_JOB

from .conftest import RUNNING, SUCCEEDED, Terminal, train_job, worker_pod


@pytest.fixture
def job(headrace: Terminal) -> None:
    """A job of two workers that runs."""
    headrace.fake.seed(TRAIN_JOB, train_job(spec={"workers": 2}, **RUNNING))
    for index in (0, 1):
        pod = headrace.fake.seed(POD, worker_pod(index))[0]
        lines = [f"2026-01-01T00:00:0{n}Z worker {index} says {n}\n".encode() for n in (1, 2)]
        headrace.fake.script_logs(pod.ref, lines, container="main")


@pytest.mark.usefixtures("job")
def test_logs_of_all_workers_with_their_names(headrace: Terminal) -> None:
    said = headrace("logs", "digits")
    assert (said.code, said.err) == (0, "")
    assert said.lines() == [f"[worker-{i}] worker {i} says {n}" for i in (0, 1) for n in (1, 2)]


@pytest.mark.usefixtures("job")
def test_logs_of_one_worker_for_programs(headrace: Terminal) -> None:
    as_json = [json.loads(line) for line in headrace("logs", "digits", "-w", "worker-1", "-o", "json").lines()]
    assert as_json[0] == {"worker": "worker-1", "text": "worker 1 says 1"}
    as_yaml = yaml.safe_load(headrace("logs", "digits", "-w", "worker-1", "-o", "yaml").out)
    assert as_yaml == as_json


def test_logs_followed_to_the_end(headrace: Terminal) -> None:
    headrace.fake.seed(TRAIN_JOB, train_job(**SUCCEEDED))
    pod = headrace.fake.seed(POD, worker_pod(phase="Succeeded"))[0]
    headrace.fake.script_logs(pod.ref, [b"2026-01-01T00:00:01Z done\n"], container="main")
    assert headrace("logs", "-f", "digits").out == "[worker-0] done\n"


def test_silence_is_said(headrace: Terminal) -> None:
    headrace.fake.seed(TRAIN_JOB, train_job())
    said = headrace("logs", "digits")
    assert (said.code, said.out) == (0, "")
    assert said.err == "! No worker of digits has printed anything that is still kept.\n"


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (("logs", "nothing"), 66, "nothing"),
        (("logs", "digits", "--since", "yesterday"), 2, "'yesterday' is not a duration"),
        (("logs", "digits", "--tail", "-1"), 2, "-1 is not in the range"),
        (("logs",), 2, "Missing argument 'JOB'"),
        (("exec", "nothing", "--", "ls"), 66, "nothing"),
        (("exec", "digits"), 2, "Missing argument 'COMMAND...'"),
        (("exec", "digits", "-w", "worker-9", "--", "ls"), 66, "These run: worker-0, worker-1."),
        (("exec", "digits", "-it", "--", "sh"), 65, "needs a terminal"),
    ],
)
@pytest.mark.usefixtures("job")
def test_bad_words(headrace: Terminal, words: Sequence[str], code: int, sentence: str) -> None:
    said = headrace(*words)
    assert (said.code, said.out) == (code, "")
    assert sentence in said.err


@pytest.mark.usefixtures("job")
def test_exec_passes_streams_and_exit_code_on(headrace: Terminal) -> None:
    async def command(argv: Sequence[str], stdin: bytes) -> ExecResult:
        return ExecResult(3, " ".join(argv).encode() + b"\n", b"warned\n")

    headrace.fake.script_exec(Ref("default", "digits-1-worker-0"), command, container="main")
    assert headrace("exec", "digits", "--", "ls", "-l", "-w") == (3, "ls -l -w\n", "warned\n")
    found = json.loads(headrace("exec", "digits", "-o", "json", "--", "ls").out)
    assert found == {"exitCode": 3, "stdout": "ls\n", "stderr": "warned\n"}


@pytest.mark.usefixtures("job")
def test_exec_in_another_worker_and_container(headrace: Terminal) -> None:
    async def command(argv: Sequence[str], stdin: bytes) -> ExecResult:
        return ExecResult(0, b"here\n", b"")

    headrace.fake.script_exec(Ref("default", "digits-1-worker-1"), command, container="fluid-fuse-0")
    assert headrace("exec", "digits", "-w", "worker-1", "-c", "fluid-fuse-0", "ls").out == "here\n"
