"""`headrace` as a person types it, over the fake cluster: exit code, standard output, standard error."""

from __future__ import annotations

import io
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import anyio
import pytest
from click.testing import CliRunner

from headrace.cli.main import main
from headrace.cluster.fake import FakeCluster
from headrace.cluster.protocol import MergePatch
from headrace.sdk.client import READS
from headrace.sdk.pumping import single_error
from headrace.spec.kind import Json, Ref
from headrace.spec.kinds import POD, TRAIN_JOB
from headrace.spec.names import INDEX_LABEL, JOB_LABEL, ROLE_LABEL

Life = Callable[[FakeCluster], Coroutine[Any, Any, None]]

NO_BILL: Json = {"currency": "USD", "total": "0", "final": True, "rows": []}
QUOTE: Json = {
    "action": "place",
    "pool": "own",
    "because": "Own pool own has room for it now.",
    "choices": [
        {"pool": "own", "fits": True, "startsInSeconds": 0.0, "cost": {"amount": "0", "currency": "USD"}, "bytesToMove": 0, "reason": "", "chosen": True},
        {"pool": "cloud", "fits": True, "startsInSeconds": 90.0, "cost": {"amount": "0.0312", "currency": "USD"}, "bytesToMove": None, "reason": "", "chosen": False},
        {"pool": "tiny", "fits": False, "startsInSeconds": None, "cost": None, "bytesToMove": None, "reason": "needs cpu 2", "chosen": False},
    ],
}  # fmt: skip


class Said(NamedTuple):
    """What a command did."""

    code: int
    out: str
    err: str

    def lines(self) -> list[str]:
        return self.out.splitlines()


class Terminal:
    """Types commands. `life` is what happens in the cluster while one runs."""

    def __init__(self) -> None:
        self.fake = FakeCluster()
        self.life: Life | None = None
        self.reads("usage", NO_BILL)
        self.fake.script_request("GET", READS, {"kind": "APIResourceList"})

    def reads(self, path: str, answer: Any, method: str = "GET") -> None:
        """Script a computed read."""
        self.fake.script_request(method, f"{READS}/{path}", answer)

    def __call__(self, *words: str, stdin: str = "") -> Said:
        before = signal.getsignal(signal.SIGPIPE)
        with pytest.MonkeyPatch.context() as patch, CliRunner().isolation(input=stdin) as (out, err, _):
            patch.setattr(sys, "argv", ["headrace", *words])
            try:
                main()
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else 0
            finally:
                signal.signal(signal.SIGPIPE, before)
            return Said(code, _text(out), _text(err))

    @asynccontextmanager
    async def connect(self, *_: Any, **__: Any) -> AsyncIterator[tuple[FakeCluster, str]]:
        self.fake.cut_watches()  # every command has an event loop of its own, and so must what it waits for
        with single_error():
            async with anyio.create_task_group() as tasks:
                if self.life is not None:
                    tasks.start_soon(self.life, self.fake)
                yield self.fake, "default"
                tasks.cancel_scope.cancel()


def _text(stream: io.BytesIO) -> str:
    return stream.getvalue().decode()


@pytest.fixture
def headrace(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    terminal = Terminal()
    monkeypatch.setattr("headrace.sdk.client.connect", terminal.connect)
    monkeypatch.delenv("HEADRACE_NAMESPACE", raising=False)
    return terminal


def train_job(name: str = "digits", *, namespace: str = "default", spec: Json | None = None, **status: Any) -> Json:
    return {
        "metadata": {"name": name, "namespace": namespace, "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"command": ["python", "train.py"], **(spec or {})},
        "status": status,
    }


def worker_pod(index: int = 0, *, job: str = "digits", attempt: int = 1, phase: str = "Running", **extra: Any) -> Json:
    states = {"Running": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}, "Pending": {"waiting": {}}}
    ended = {
        "terminated": {
            "exitCode": 0 if phase == "Succeeded" else 1,
            "startedAt": "2026-01-01T00:00:00Z",
            "finishedAt": "2026-01-01T00:01:05Z",
        }
    }
    return {
        "metadata": {
            "name": f"{job}-{attempt}-worker-{index}",
            "namespace": "default",
            "labels": {
                JOB_LABEL: job,
                ROLE_LABEL: "worker",
                INDEX_LABEL: str(index),
                "headrace.io/attempt": str(attempt),
            },
        },
        "spec": {"nodeName": "own", "containers": [{"name": "main"}], **extra},
        "status": {"phase": phase, "containerStatuses": [{"name": "main", "state": states.get(phase, ended)}]},
    }


WAITING: Json = {
    "phase": "Queued",
    "conditions": [{"type": "Admitted", "status": "False", "reason": "NoRoom", "message": "own lacks cpu 2"}],
}
ATTEMPT: Json = {"attempt": 1, "pool": "own", "startedAt": "2026-01-01T00:00:10Z"}
RUNNING: Json = {"phase": "Running", "placement": {"pool": "own", "attempt": 1}, "attempts": [ATTEMPT]}
ENDED_ATTEMPT: Json = {**ATTEMPT, "endedAt": "2026-01-01T00:02:10Z"}
FAILED: Json = {
    "phase": "Failed",
    "reason": "Error",
    "message": "digits-1-worker-0 exited with code 7: no space",
    "exitCode": 7,
    "placement": {"pool": "own", "attempt": 1},
    "attempts": [{**ENDED_ATTEMPT, "outcome": "Failed", "message": "digits-1-worker-0 exited with code 7: no space"}],
    "finishedAt": "2026-01-01T00:02:10Z",
}
SUCCEEDED: Json = {
    "phase": "Succeeded",
    "message": "All workers ended with exit code 0.",
    "exitCode": 0,
    "placement": {"pool": "cloud", "attempt": 2, "message": "Bursting is cheaper. (own: in ~2h, 0.00; cloud: now, 0.03)"},
    "attempts": [{**ENDED_ATTEMPT, "outcome": "NodeLost"}, {**ENDED_ATTEMPT, "attempt": 2, "pool": "cloud", "outcome": "Succeeded"}],
    "finishedAt": "2026-01-01T00:02:10Z",
}  # fmt: skip


async def write_status(fake: FakeCluster, status: Json, name: str = "digits") -> None:
    """Write a job's status as the reconciler does."""
    await fake.patch(TRAIN_JOB, Ref("default", name), MergePatch({"status": status}), subresource="status")


async def until_created(fake: FakeCluster) -> Ref:
    """Wait until the command has submitted its job."""
    async with fake.watch(TRAIN_JOB, since="0") as changes:
        async for change in changes:
            if change.type == "ADDED":
                return change.doc.ref
    raise AssertionError("unreachable")


def life_of_a_job(end: Json, *chunks: bytes) -> Life:
    """Return a life in which the submitted job is placed, runs in one worker that prints `chunks`, and ends."""

    async def live(fake: FakeCluster) -> None:
        ref = await until_created(fake)
        await write_status(fake, WAITING, ref.name)
        await write_status(fake, RUNNING, ref.name)
        pod = fake.seed(POD, worker_pod(job=ref.name))[0]
        fake.script_logs(pod.ref, chunks, container="main")
        fake.seed(POD, worker_pod(job=ref.name, phase=end["phase"]))
        await write_status(fake, end, ref.name)

    return live
