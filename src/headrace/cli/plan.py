"""Prints the plan of a job: which places it could run in, from when, for how much, and why one was chosen."""

from __future__ import annotations

from typing import Any

import click

from headrace.cli.session import money, table
from headrace.sdk import jobs
from headrace.spec.kind import Doc, Json
from headrace.units import human_bytes, human_duration


def show(job: Doc[Any], quote: Json) -> None:
    """Print one line for the job and a row for each pool."""
    click.echo(f"{click.style(job.name, bold=True)}   {shape(job)}")
    show_choices(quote)


def shape(job: Doc[Any]) -> str:
    """Return `2 workers × cpu 1, memory 512Mi`."""
    count = jobs.worker_count(job)
    resources = ", ".join(f"{key} {value}" for key, value in (job.spec.get("resources") or {}).items())
    return f"{count} worker{'s' if count != 1 else ''}" + (f" × {resources}" if resources else "")


def show_choices(quote: Json) -> None:
    """Print the choices and the sentence that says which was taken and why."""
    rows = [
        (
            "→" if choice.get("chosen") else " ",
            choice["pool"],
            _start(choice),
            _cost(choice),
            _bytes(choice.get("bytesToMove")),
            choice.get("reason", ""),
        )
        for choice in quote.get("choices", [])
    ]
    if rows:
        table((" ", "POOL", "START", "COST", "TO MOVE", ""), rows, indent="  ")
    if quote.get("because"):
        click.echo(f"  {quote['because']}")


def _start(choice: Json) -> str:
    seconds = choice.get("startsInSeconds")
    if not choice.get("fits", True):
        return "never"
    if seconds is None:
        return "unknown"
    return "now" if seconds < 1 else f"in ~{human_duration(seconds)}"


def _cost(choice: Json) -> str:
    cost = choice.get("cost")
    return money(cost["amount"], cost["currency"]) if cost else "–"


def _bytes(size: float | None) -> str:
    return "–" if size is None else human_bytes(size)
