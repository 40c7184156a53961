"""`usage`: bills by everything they can be grouped by, times as people write them, and the replay."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Sequence

import pytest

from headrace.cli.commands.usage import GROUPINGS
from headrace.ledger import usage
from headrace.spec.kind import Json

from .conftest import Terminal

JOB_ROW: Json = {"namespace": "vision", "job": "digits", "seconds": 125, "cost": "0.00315", "currency": "USD"}
SPAN_ROW: Json = {
    **JOB_ROW,
    "pod": "digits-1-worker-0",
    "pool": "cloud",
    "user": "ada",
    "start": "2026-01-01T00:00:00Z",
    "end": None,
    "shape": "cpu 1, memory 512Mi",
}


def bill(*rows: Json, final: bool = True) -> Json:
    return {"currency": "USD", "total": "0.00315", "final": final, "rows": list(rows)}


def test_groupings_are_the_ledgers() -> None:
    assert GROUPINGS == usage.GROUPINGS


def test_by_job(headrace: Terminal) -> None:
    headrace.reads("usage", bill(JOB_ROW))
    assert headrace("usage").lines() == ["JOB      SECONDS   COST", "digits   125       0.0032 USD", "total 0.0032 USD"]
    assert headrace("usage", "-A").lines()[0].split() == ["NAMESPACE", "JOB", "SECONDS", "COST"]


def test_by_span_while_it_runs(headrace: Terminal) -> None:
    headrace.reads("usage", bill(SPAN_ROW, final=False))
    lines = headrace("usage", "--by", "span").lines()
    assert lines[0].split() == ["POD", "POOL", "START", "SECONDS", "COST", "SHAPE"]
    assert "125 so far" in lines[1]
    assert lines[2] == "total 0.0032 USD so far"


@pytest.mark.parametrize("by", ["pool", "user", "day"])
def test_by_others(headrace: Terminal, by: str) -> None:
    headrace.reads("usage", bill({by: "x", "seconds": 1, "cost": "1", "currency": "USD"}))
    assert headrace("usage", "--by", by, "-A").lines()[0].split() == [by.upper(), "SECONDS", "COST"]


def test_two_currencies_are_not_added(headrace: Terminal) -> None:
    headrace.reads("usage", bill(SPAN_ROW, {**SPAN_ROW, "cost": "2", "currency": "EUR"}))
    assert headrace("usage", "--by", "span").lines()[-1] == "total 0.0032 USD + 2.00 EUR"


def test_nothing_was_used(headrace: Terminal) -> None:
    assert headrace("usage").out == "Nothing was used in this time.\n"


def test_for_programs_amounts_stay_exact(headrace: Terminal) -> None:
    headrace.reads("usage", bill(JOB_ROW))
    assert json.loads(headrace("usage", "-o", "json").out) == bill(JOB_ROW)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-11-01", "2026-11-01T00:00:00Z"),
        ("2026-11-01T08:00:00Z", "2026-11-01T08:00:00Z"),
        ("2026-11-01T08:00:00+02:00", "2026-11-01T06:00:00Z"),
    ],
)
def test_times_as_written(headrace: Terminal, text: str, moment: str) -> None:
    headrace.reads("usage", lambda query, _body: {**bill(), "asked": query})
    asked = json.loads(headrace("usage", "--since", text, "-o", "json").out)["asked"]
    assert asked == {"by": "job", "namespace": "default", "since": moment}


def test_times_as_long_ago(headrace: Terminal) -> None:
    headrace.reads("usage", lambda query, _body: {**bill(), "asked": query})
    asked = json.loads(headrace("usage", "--since", "7d", "-o", "json").out)["asked"]
    age = dt.datetime.now(dt.UTC) - dt.datetime.fromisoformat(asked["since"])
    assert dt.timedelta(days=7) <= age < dt.timedelta(days=7, minutes=5)


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["--since", "yesterday"], 2, "'yesterday' is no time; write 2026-11-01T08:00:00Z"),
        (["--since", "2026"], 2, "is no time"),
        (["--since", "2026-13-01"], 2, "is no time"),
        (["--since", "2026-11-01T08:00:00"], 2, "is no time"),
        (["--since", "9999999999d"], 2, "is no time"),
        (["--since", "2026-11-02", "--until", "2026-11-01"], 65, "is not before --until"),
        (["--by", "colour"], 2, "'colour' is not one of"),
        (["--replay", "--since", "7d"], 65, "goes over all"),
    ],
)
def test_bad_words(headrace: Terminal, words: Sequence[str], code: int, sentence: str) -> None:
    said = headrace("usage", *words)
    assert (said.code, said.out) == (code, "")
    assert sentence in " ".join(said.err.split())


def replayed(*differences: str) -> Json:
    amounts = {"currency": "USD", "billed": "0.5", "replayed": "0.5", "events": 4, "spans": 2}
    return {"equal": not differences, "differences": list(differences), **amounts}


def test_the_replay_is_equal_or_ends_with_1(headrace: Terminal) -> None:
    headrace.reads("usage/replay", replayed())
    said = headrace("usage", "--replay", "--job", "digits")
    assert said == (0, "billed 0.5000 USD · replayed from 4 events 0.5000 USD · equal\n", "")
    headrace.reads("usage/replay", replayed("span 1: billed 1, replayed 2"))
    said = headrace("usage", "--replay")
    assert said.code == 1
    assert "DIFFERENT\n  span 1" in said.out
