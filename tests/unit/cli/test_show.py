"""`show`: a job whole, in every state."""

from __future__ import annotations

import json

from headrace.errors import Unavailable
from headrace.spec.kind import Json
from headrace.spec.kinds import PERSISTENT_VOLUME_CLAIM, POD, TRAIN_JOB

from .conftest import FAILED, NO_BILL, SUCCEEDED, WAITING, Terminal, train_job, worker_pod

MOUNTS: Json = {"mounts": [{"claim": "digits", "path": "/data"}, {"claim": "gone", "path": "/x"}, {"source": "s3://b/t", "path": "/y"}]}  # fmt: skip


def test_a_job_that_waits(headrace: Terminal) -> None:
    headrace.fake.seed(TRAIN_JOB, train_job(**WAITING))
    assert headrace("show", "digits").lines() == [
        "digits   queued – own lacks cpu 2",
        "command  python train.py",
    ]


def test_a_job_that_has_just_been_submitted(headrace: Terminal) -> None:
    headrace.fake.seed(TRAIN_JOB, train_job(spec={"command": ["sh", "-c", "echo 'a b'"]}))
    assert headrace("show", "digits").lines() == ["digits   queued", """command  sh -c 'echo '"'"'a b'"'"''"""]


def test_a_failed_job(headrace: Terminal) -> None:
    headrace.fake.seed(TRAIN_JOB, train_job(**FAILED))
    headrace.fake.seed(POD, worker_pod(phase="Failed"))
    assert headrace("show", "digits").lines() == [
        "digits   failed on own – digits-1-worker-0 exited with code 7: no space",
        "command  python train.py",
        "attempt  1 on own: Failed: digits-1-worker-0 exited with code 7: no space",
        "ended    Error: digits-1-worker-0 exited with code 7: no space",
        "pod      digits-1-worker-0   Failed on node own",
        "         CONTAINER   WHOSE   STATE               PRIVILEGES   MOUNTS",
        "         main        yours   exit 1 after 1m5s   none",
    ]


def test_a_finished_job_with_data_and_a_bill(headrace: Terminal) -> None:
    code = {"archive": "sha256:abc"}
    headrace.fake.seed(TRAIN_JOB, train_job(spec={**MOUNTS, "code": code}, **SUCCEEDED))
    sidecar = {
        "name": "fluid-fuse-0",
        "volumeMounts": [{"mountPath": "/runtime-mnt"}],
        "securityContext": {"capabilities": {"add": ["SYS_ADMIN"]}},
    }
    mounts = [{"name": "fluid-fuse-0-data", "mountPath": "/data"}, {"name": "workspace", "mountPath": "/workspace"}]
    main = {"name": "main", "volumeMounts": mounts}
    spec: Json = {"initContainers": [{"name": "code"}, sidecar], "containers": [main]}
    headrace.fake.seed(POD, worker_pod(10, phase="Succeeded"), worker_pod(attempt=2, phase="Succeeded", **spec))
    claim = {
        "metadata": {"name": "digits", "namespace": "default"},
        "spec": {"volumeName": "pv-1"},
        "status": {"phase": "Bound"},
    }
    headrace.fake.seed(PERSISTENT_VOLUME_CLAIM, claim)
    headrace.reads("usage", {**NO_BILL, "total": "0.0021", "rows": [{"seconds": 120}, {"seconds": 130}]})
    said = headrace("show", "digits")
    assert said.err == ""
    lines = [" ".join(line.split()) for line in said.lines()]
    for line in (
        "digits succeeded on cloud (attempt 2)",
        "code sha256:abc",
        "decided Bursting is cheaper. (own: in ~2h, 0.00; cloud: now, 0.03)",
        "attempt 1 on own: NodeLost",
        "attempt 2 on cloud: Succeeded",
        "fluid-fuse-0 storage client waiting +SYS_ADMIN serves /data",
        "code set-up waiting none",
        "main yours exit 0 after 1m5s none /data, /workspace",
        "claim digits at /data Bound to pv-1, spec as you wrote it (generation 1)",
        "claim gone missing",
        "mount s3://b/t at /y",
        "bill 250 s · 0.0021 USD",
    ):
        assert line in lines
    assert lines.index("pod digits-1-worker-10 Succeeded on node own") < lines.index(
        "pod digits-2-worker-0 Succeeded on node own"
    )


def test_show_of_roles_and_of_what_was_ignored(headrace: Terminal) -> None:
    roles = {"chief": {"command": ["a"]}, "worker": {"command": ["b"], "replicas": 2}, "ps": None}
    ignored = {
        "type": "Unsupported",
        "status": "True",
        "message": "spec.framework is accepted, but its variables are not set",
    }
    body = train_job(spec={"roles": roles}, conditions=[ignored])
    del body["spec"]["command"]
    headrace.fake.seed(TRAIN_JOB, body)
    lines = headrace("show", "digits").lines()
    assert lines[1:] == ["command  a   (chief)", "command  b   (worker)", f"ignored  {ignored['message']}"]


def test_show_for_programs_and_without_bills(headrace: Terminal) -> None:
    headrace.fake.seed(TRAIN_JOB, train_job(**SUCCEEDED))
    headrace.fake.seed(POD, worker_pod(phase="Succeeded"), worker_pod(job="other"))
    headrace.reads("usage", Unavailable("The ledger is away."))
    said = headrace("show", "digits", "-o", "json")
    found = json.loads(said.out)
    assert (found["job"]["metadata"]["name"], len(found["pods"]), found["bill"]) == ("digits", 1, None)
    assert said.err == "! The bill is unknown: The ledger is away.\n"


def test_show_of_nothing(headrace: Terminal) -> None:
    assert headrace("show", "digits").code == 66
    assert headrace("show").code == 2
