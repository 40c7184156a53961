"""`ps`, `why`, `stop` on jobs in every state."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from headrace.cluster.fake import FakeCluster
from headrace.cluster.protocol import MergePatch
from headrace.errors import Denied, NotFound, Unavailable
from headrace.sdk.client import READS
from headrace.spec.kind import Json, Ref
from headrace.spec.kinds import TRAIN_JOB

from .conftest import FAILED, NO_BILL, QUOTE, RUNNING, SUCCEEDED, WAITING, Terminal, train_job


def test_ps_without_jobs_says_how_to_run_one(headrace: Terminal) -> None:
    said = headrace("ps")
    assert (said.code, said.err) == (0, "")
    assert said.out == "There are no jobs in namespace default. Run one: headrace run -- python train.py\n"


def test_hints_keep_the_namespace_and_stay_valid_commands(headrace: Terminal) -> None:
    assert "headrace -n vision run -- python train.py" in headrace("ps", "-n", "vision").out
    assert "in namespace vision" in headrace("-n", "vision", "ps").out
    assert "in namespace speech" in headrace("-n", "vision", "ps", "-n", "speech").out


@pytest.mark.parametrize(
    ("status", "cells"),
    [
        ({}, ["digits", "Queued", "–", "2", "–", "–"]),
        (WAITING, ["digits", "Queued", "–", "2", "–", "–", "own lacks cpu 2"]),
        (FAILED, ["digits", "Failed", "own", "2", "2m", "–", "digits-1-worker-0 exited with code 7: no space"]),
        (SUCCEEDED, ["digits", "Succeeded", "cloud", "2", "4m", "–"]),
        (
            {"phase": "Suspended", "message": "It was stopped.", "attempts": FAILED["attempts"]},
            ["digits", "Suspended", "own", "2", "2m", "–", "It was stopped."],
        ),
        (
            {"phase": "Starting", "message": "", "placement": {"pool": "cloud", "attempt": 1}},
            ["digits", "Starting", "cloud", "2", "–", "–"],
        ),
    ],
)
def test_ps_has_a_row_for_each_state(headrace: Terminal, status: Json, cells: list[str]) -> None:
    headrace.fake.seed(TRAIN_JOB, train_job(spec={"workers": 2}, **status))
    heading, row = headrace("ps").lines()
    assert heading.split() == ["NAME", "STATE", "POOL", "WORKERS", "RAN", "COST", "AGE", "WHY"]
    found = [cell for cell in row.split("   ") if cell.strip()]
    assert [cell.strip() for cell in (*found[:6], *found[7:])] == cells


def test_ps_counts_the_workers_of_all_roles_and_sorts_by_age(headrace: Terminal) -> None:
    roles = {"chief": {"replicas": 1}, "worker": {"replicas": 3}, "ps": None}
    younger = train_job("a", spec={"roles": roles})
    younger["metadata"]["creationTimestamp"] = "2026-01-02T00:00:00Z"
    headrace.fake.seed(TRAIN_JOB, younger, train_job("b"))
    rows = [line.split() for line in headrace("ps").lines()[1:]]
    assert [(row[0], row[3]) for row in rows] == [("b", "1"), ("a", "5")]


def test_ps_shows_costs_by_namespace(headrace: Terminal) -> None:
    headrace.fake.seed(TRAIN_JOB, train_job(**SUCCEEDED), train_job(namespace="vision", **RUNNING))
    rows = [
        {"namespace": "default", "job": "digits", "cost": "0.03121", "currency": "USD"},
        {"namespace": "vision", "job": "digits", "cost": "12.5", "currency": "EUR"},
    ]
    headrace.reads("usage", {**NO_BILL, "rows": rows})
    said = headrace("ps", "-A")
    assert said.lines()[0].split()[0] == "NAMESPACE"
    assert "0.0312 USD" in said.out
    assert "12.50 EUR" in said.out


@pytest.mark.parametrize("error", [Unavailable("The ledger is away."), Denied("You may not.")])
def test_ps_works_where_no_costs_can_be_had(headrace: Terminal, error: Exception) -> None:
    headrace.fake.seed(TRAIN_JOB, train_job(**RUNNING))
    headrace.reads("usage", error)
    said = headrace("ps")
    assert said.code == 0
    assert "Running" in said.out
    assert said.err.startswith("! Costs are unknown: ")


def test_ps_where_headrace_is_not_installed(headrace: Terminal) -> None:
    headrace.fake.fail_next("list", NotFound("the server could not find the requested resource."))
    said = headrace("ps")
    assert said.code == 66
    assert "This cluster knows no trainjobs.headrace.io." in said.err


def test_ps_for_programs(headrace: Terminal) -> None:
    headrace.fake.seed(TRAIN_JOB, train_job(**RUNNING))
    listed = json.loads(headrace("ps", "-o", "json").out)
    assert (listed["kind"], listed["items"][0]["metadata"]["name"]) == ("List", "digits")
    assert yaml.safe_load(headrace("ps", "-o", "yaml").out) == listed


def test_a_long_reason_is_cut_with_a_mark(headrace: Terminal) -> None:
    headrace.fake.seed(TRAIN_JOB, train_job(phase="Failed", message="x" * 500))
    assert headrace("ps").out.rstrip().endswith("x…")


# -- why ---------------------------------------------------------------------------------------------------------------

WHY: Json = {
    "phase": "Queued",
    "summary": "number 2 in queue default; no room.",
    **{key: QUOTE[key] for key in ("choices", "because")},
    "blockers": [{"pool": "own", "message": "own: lacks cpu 2, held by digits-1"}],
    "helps": ["stop digits-1"],
    "figures": [{"name": "expected duration", "value": "1h", "source": "queue default"}],
}


def test_why_tells_place_blockers_remedies_choices_and_sources(headrace: Terminal) -> None:
    headrace.reads("namespaces/default/trainjobs/digits/waiting", WHY)
    said = headrace("why", "digits")
    assert said.code == 0
    assert said.lines() == [
        "digits   queued: number 2 in queue default; no room.",
        "  blocked by  own: lacks cpu 2, held by digits-1",
        "  would help  stop digits-1",
        "      POOL    START       COST         TO MOVE",
        "  →   own     now         0.00 USD     0 B",
        "      cloud   in ~1m30s   0.0312 USD   –",
        "      tiny    never       –            –         needs cpu 2",
        "  Own pool own has room for it now.",
        "  expected duration: 1h (queue default)",
    ]


def test_why_of_a_job_that_does_not_wait(headrace: Terminal) -> None:
    answer = {"phase": "Failed", "summary": "exited with code 7", "choices": [], "blockers": [], "helps": []}
    headrace.reads("namespaces/default/trainjobs/digits/waiting", answer)
    assert headrace("why", "digits").lines() == ["digits   failed: exited with code 7"]
    assert json.loads(headrace("why", "digits", "-o", "json").out) == answer


def test_why_of_nothing(headrace: Terminal) -> None:
    said = headrace("why", "digits")
    assert (said.code, said.out) == (66, "")
    assert "Traceback" not in said.err


# -- stop --------------------------------------------------------------------------------------------------------------


def test_stop_waits_for_each_and_leaves_ended_ones_alone(headrace: Terminal) -> None:
    headrace.fake.seed(TRAIN_JOB, train_job("a", **RUNNING), train_job("b", **SUCCEEDED))

    async def life(fake: FakeCluster) -> None:
        async with fake.watch(TRAIN_JOB, since="2") as changes:
            async for change in changes:
                if change.doc.spec.get("suspend"):
                    body = MergePatch({"status": {"phase": "Suspended"}})
                    await fake.patch(TRAIN_JOB, change.doc.ref, body, subresource="status")
                    return

    headrace.life = life
    assert headrace("stop", "a", "b").lines() == ["a stopped", "b had ended already: Succeeded"]


def test_stop_without_waiting(headrace: Terminal) -> None:
    headrace.fake.seed(TRAIN_JOB, train_job(**RUNNING))
    assert headrace("stop", "digits", "--no-wait").out == "digits stops\n"
    listed = json.loads(headrace("stop", "digits", "--no-wait", "-o", "json").out)
    assert listed["items"][0]["spec"]["suspend"] is True


def test_stop_of_nothing_or_no_name(headrace: Terminal) -> None:
    said = headrace("stop", "nothing")
    assert said.code == 66
    said = headrace("stop")
    assert said.code == 2
    assert "JOB..." in said.err


@pytest.mark.parametrize("words", [("ps", "extra"), ("why",), ("why", "a", "b"), ("ps", "-o", "xml")])
def test_what_click_refuses_is_a_usage_error(headrace: Terminal, words: Any) -> None:
    said = headrace(*words)
    assert (said.code, said.out) == (2, "")
    assert f"headrace {words[0]} --help" in said.err


def test_the_namespace_may_come_from_the_environment(headrace: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_NAMESPACE", "vision")
    headrace.fake.seed(TRAIN_JOB, train_job(namespace="vision"))
    assert "digits" in headrace("ps").out
    headrace("why", "digits")
    assert headrace.fake.calls[-2].kind == f"{READS}/namespaces/vision/trainjobs/digits/waiting"
    assert Ref("vision", "") in [call.ref for call in headrace.fake.calls]
