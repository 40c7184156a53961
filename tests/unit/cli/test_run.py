"""`run`: from words to a TrainJob, the plan, following it to its end, and the exit code."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from headrace.cli.jobspec import described
from headrace.errors import AlreadyExists, Denied, InvalidSpec, Unavailable
from headrace.spec.kind import Json
from headrace.spec.kinds import POD, TRAIN_JOB

from .conftest import (
    FAILED,
    NO_BILL,
    QUOTE,
    SUCCEEDED,
    Terminal,
    life_of_a_job,
    until_created,
    worker_pod,
    write_status,
)

BILL = {**NO_BILL, "total": "0.0021", "rows": [{"cost": "0.0021"}]}


@pytest.fixture(autouse=True)
def quoted(headrace: Terminal) -> None:
    headrace.reads("namespaces/default/quote", QUOTE, method="POST")


def test_a_job_from_plan_to_end(headrace: Terminal) -> None:
    headrace.reads("usage", BILL)
    headrace.life = life_of_a_job(SUCCEEDED, b"2026-01-01T00:00:00Z epoch 1\n", b"2026-01-01T00:00:01Z epoch 2\n")
    said = headrace("run", "--name", "digits", "-w", "2", "--memory", "1Gi", "--", "python", "-c", "pass")
    assert (said.code, said.err) == (0, "")
    lines = said.lines()
    assert lines[0] == "digits   2 workers × memory 1Gi"
    assert lines[2].split() == ["→", "own", "now", "0.00", "USD", "0", "B"]
    assert lines[5] == "  Own pool own has room for it now."
    for line in (
        "· queued",
        "· queued – own lacks cpu 2",
        "· running on own",
        "[worker-0] epoch 1",
        "[worker-0] epoch 2",
    ):
        assert line in lines
    assert lines[-1] == "✔ digits succeeded · ran 4m · on cloud · cost 0.0021 USD"


def test_a_failed_job_passes_its_exit_code_on_and_says_why(headrace: Terminal) -> None:
    headrace.life = life_of_a_job(FAILED, b"2026-01-01T00:00:00Z boom\n")
    said = headrace("run", "--name", "digits", "--", "false")
    assert said.code == 7
    assert said.lines()[-3:] == [
        "✘ digits failed · ran 2m · on own · cost 0.00 USD",
        "  Error: digits-1-worker-0 exited with code 7: no space",
        "  → headrace show digits",
    ]


@pytest.mark.parametrize(("exit_code", "shell"), [(None, 1), (0, 1), (137, 137), (256, 1)])
def test_a_failure_is_never_success(headrace: Terminal, exit_code: int | None, shell: int) -> None:
    headrace.life = life_of_a_job({**FAILED, "exitCode": exit_code})
    assert headrace("run", "--", "false").code == shell


def test_a_job_deleted_meanwhile(headrace: Terminal) -> None:
    async def life(fake: Any) -> None:
        await fake.delete(TRAIN_JOB, await until_created(fake))

    headrace.life = life
    said = headrace("run", "--name", "digits", "--", "true")
    assert (said.code, said.err) == (1, "digits was deleted.\n")


def test_output_that_cannot_be_had_does_not_stop_the_following(headrace: Terminal) -> None:
    headrace.fake.fail_next("logs", Denied("You may not read pods/log."), times=5)
    headrace.life = life_of_a_job(SUCCEEDED, b"2026-01-01T00:00:00Z x\n")
    said = headrace("run", "--name", "digits", "--", "true")
    assert said.code == 0
    assert "! The workers' output cannot be shown: You may not read pods/log." in said.err


def test_programs_get_one_document(headrace: Terminal) -> None:
    headrace.life = life_of_a_job(FAILED)
    said = headrace("run", "--name", "digits", "-o", "json", "--", "false")
    assert said.code == 7
    assert json.loads(said.out)["status"]["phase"] == "Failed"


def test_detach_says_how_to_follow(headrace: Terminal) -> None:
    headrace.reads("namespaces/vision/quote", QUOTE, method="POST")
    said = headrace("-n", "vision", "run", "-d", "--name", "digits", "--", "true")
    assert said.code == 0
    assert said.lines()[-1] == "Follow it with: headrace -n vision logs -f digits"
    assert json.loads(headrace("run", "-d", "--name", "other", "-o", "json", "--", "true").out)["kind"] == "TrainJob"


def test_dry_run_submits_nothing(headrace: Terminal) -> None:
    said = headrace("run", "--dry-run", "--name", "digits", "--", "true")
    assert said.lines()[-1] == "  Own pool own has room for it now."
    both = json.loads(headrace("run", "--dry-run", "-o", "json", "--", "true").out)
    assert (both["job"]["kind"], both["plan"]["pool"]) == ("TrainJob", "own")
    assert headrace.fake.count("create", TRAIN_JOB) == 2
    assert headrace("ps").out.startswith("There are no jobs")


def test_without_a_planner_the_job_still_runs(headrace: Terminal) -> None:
    headrace.reads("namespaces/default/quote", Unavailable("The scheduler is away."), method="POST")
    said = headrace("run", "-d", "--name", "digits", "--", "true")
    assert said.code == 0
    assert "! There is no plan: The scheduler is away." in said.err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InvalidSpec("TrainJob digits is invalid.", causes=(("spec.workers", "is 0"),)), 65),
        (AlreadyExists("There is one."), 73),
        (Denied("You may not."), 77),
    ],
)
def test_what_the_server_refuses(headrace: Terminal, error: Exception, code: int) -> None:
    headrace.fake.fail_next("create", error)
    said = headrace("run", "--", "true")
    assert said.code == code
    assert said.err.startswith(f"Error: {error}".split(".", maxsplit=1)[0])
    if code == 65:
        assert "  spec.workers: is 0" in said.err.splitlines()


# -- what the words mean -----------------------------------------------------------------------------------------------


def job_of(headrace: Terminal, *words: str) -> Json:
    """Return the spec of the job that `run` with these words makes."""
    said = headrace("run", "--dry-run", "-o", "json", *words)
    assert said.code == 0, said.err
    spec: Json = json.loads(said.out)["job"]["spec"]
    return spec


@pytest.mark.parametrize(
    ("words", "spec"),
    [
        ("-- echo a -n b", {"command": ["echo", "a", "-n", "b"]}),
        ("echo a", {"command": ["echo", "a"]}),
        ("-w 3 --framework pytorch -- x", {"workers": 3, "framework": "pytorch"}),
        ("--cpu 2 --memory 4Gi --gpu A100:1 -- x", {"resources": {"cpu": "2", "memory": "4Gi", "gpu": "A100:1"}}),
        ("--queue research --priority guaranteed --image i:1 -- x", {"queue": "research", "priority": "guaranteed", "image": "i:1"}),
        ("--pool own --pool cloud --duration 90m -- x", {"pools": ["own", "cloud"], "expectedDuration": "90m"}),
        ("-e A=1 -e B=x=y -e C= -- x", {"env": {"A": "1", "B": "x=y", "C": ""}}),
        ("-m data:/data:ro -m out:/out -- x", {"mounts": [{"claim": "data", "path": "/data", "readOnly": True}, {"claim": "out", "path": "/out"}]}),
        ("-m s3://bucket/train:/data -- x", {"mounts": [{"source": "s3://bucket/train", "path": "/data"}]}),
        ("-m http://host:9000/b:/data:ro -- x", {"mounts": [{"source": "http://host:9000/b", "path": "/data", "readOnly": True}]}),
    ],
)  # fmt: skip
def test_options(headrace: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str, spec: Json) -> None:
    monkeypatch.chdir(tmp_path)
    found = job_of(headrace, *shlex.split(words))
    assert {key: found[key] for key in spec} == spec


@pytest.mark.parametrize(
    ("words", "sentence", "code"),
    [
        ("", "There is nothing to run.", 65),
        ("-m data -- x", "is not CLAIM:PATH", 65),
        ("-m data:rel -- x", "is not CLAIM:PATH", 65),
        ("-m :/data -- x", "is not CLAIM:PATH", 65),
        ("-e A -- x", "is not NAME=VALUE", 65),
        ("-e =1 -- x", "is not NAME=VALUE", 65),
        ("-w 0 -- x", "0 is not in the range", 2),
        ("--duration soon -- x", "'soon' is not a duration", 2),
        ("--framework torch -- x", "'torch' is not one of", 2),
        ("--wokers 2 -- x", "No such option", 2),
        ("-C /nowhere -- x", "does not exist", 65),
        ("-f /nowhere", "cannot be read", 65),
    ],
)
def test_bad_words(headrace: Terminal, words: str, sentence: str, code: int) -> None:
    said = headrace("run", *shlex.split(words))
    assert said.code == code
    assert sentence in " ".join(said.err.split())
    assert "Traceback" not in said.err


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("kind: Pod\napiVersion: v1\n", "A Pod of v1 cannot be run"),
        ("kind: TrainJob\nspec: []\n", "spec must be a mapping"),
        ("kind: TrainJob\nspec: {command: [x], env: text}\n", "env must be a mapping"),
        ("kind: TrainJob\nspec: {command: [x], resources: text}\n", "resources must be a mapping"),
        ("kind: TrainJob\n---\nkind: TrainJob\n", "holds 2 objects"),
        ("kind: TrainJob\nspec:\n", "There is nothing to run"),
    ],
)
def test_bad_files(headrace: Terminal, tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "job.yaml").write_text(text)
    words = [] if "nothing" in sentence else ["-e", "A=1", "--cpu", "1", "--", "x"]
    said = headrace("run", "-f", str(tmp_path / "job.yaml"), *words)
    assert said.code == 65
    assert sentence in said.err


def test_options_change_a_file_and_its_paths_start_where_it_is(headrace: Terminal, tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "train.py").write_text("pass\n")
    text = (
        "kind: TrainJob\nmetadata:\nspec: {command: [a], code: {directory: src}, env: {A: '1'}, resources: {cpu: 1}}\n"
    )
    (tmp_path / "job.yaml").write_text(text)
    words = ["-f", str(tmp_path / "job.yaml"), "-e", "B=2", "--memory", "1Gi", "--", "b", "c"]
    spec = job_of(headrace, *words)
    assert spec["command"] == ["b", "c"]
    assert spec["env"] == {"A": "1", "B": "2"}
    assert spec["resources"] == {"cpu": 1, "memory": "1Gi"}
    assert spec["code"]["archive"].startswith("sha256:")


def test_a_file_from_standard_input(headrace: Terminal) -> None:
    said = headrace("run", "--dry-run", "-o", "json", "-f", "-", stdin="kind: TrainJob\nspec: {command: [a]}\n")
    assert json.loads(said.out)["job"]["spec"]["command"] == ["a"]


@pytest.mark.parametrize(
    ("command", "is_taken"),
    [
        (["python", "train.py"], True),
        (["./train.py"], True),
        (["python", "-m", "train"], True),
        (["python", "-m", "pkg"], True),
        (["python", "-m", "http.server"], False),
        (["echo", "hello"], False),
        (["echo", "x" * 5000, "\0"], False),
    ],
)
def test_code_is_taken_along_when_the_command_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str], is_taken: bool
) -> None:
    (tmp_path / "train.py").write_text("pass\n")
    (tmp_path / "pkg").mkdir()
    (tmp_path / "pkg" / "__main__.py").write_text("pass\n")
    monkeypatch.chdir(tmp_path)
    options = ("name", "workers", "framework", "image", "queue", "priority", "duration", "cpu", "memory", "gpu", "code")
    given = {**dict.fromkeys(options), "command": command, "pools": (), "mounts": (), "variables": ()}
    job, base = described(None, given)
    assert ("code" in job["spec"]) is is_taken
    assert base == tmp_path


def test_a_worker_is_never_printed_twice_over_attempts(headrace: Terminal) -> None:
    async def life(fake: Any) -> None:
        ref = await until_created(fake)
        for attempt in (1, 2):
            pod = fake.seed(POD, worker_pod(attempt=attempt))[0]
            fake.script_logs(pod.ref, [f"2026-01-01T00:00:0{attempt}Z attempt {attempt}\n".encode()], container="main")
            fake.seed(POD, worker_pod(attempt=attempt, phase="Failed" if attempt == 1 else "Succeeded"))
        await write_status(fake, SUCCEEDED, ref.name)

    headrace.life = life
    out = headrace("run", "--name", "digits", "--", "true").lines()
    assert sorted(line for line in out if line.startswith("[")) == ["[worker-0] attempt 1", "[worker-0] attempt 2"]
