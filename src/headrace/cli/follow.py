"""Follows a job on the terminal: phases as they come, its workers' lines with a prefix each, and the end in one line."""

from __future__ import annotations

from typing import Any

import anyio
import click

from headrace.cli.session import money
from headrace.clock import parse_time
from headrace.errors import HeadraceError
from headrace.sdk import jobs
from headrace.sdk.client import AsyncClient
from headrace.spec.kind import Doc
from headrace.units import human_duration

_COLOURS = ("cyan", "magenta", "yellow", "green", "blue", "bright_red")


async def to_the_end(client: AsyncClient, job: Doc[Any], *, quiet: bool = False) -> int:
    """Print what happens to `job` until it has ended and return the exit code for the shell.

    Cancelled (Ctrl-C), it says that the job goes on and how to come back.
    """
    try:
        async with anyio.create_task_group() as group:
            if not quiet:
                group.start_soon(_print_logs, client, job)
            ended = await _phases(client, job, quiet)
    except (KeyboardInterrupt, anyio.get_cancelled_exc_class()):
        click.echo(
            f"\nDetached; {job.name} goes on. Come back with: headrace logs -f {job.name}   Stop it: headrace stop {job.name}",
            err=True,
        )
        raise
    if ended is None:
        click.echo(f"{job.name} was deleted.", err=True)
        return 1
    if not quiet:
        await _print_end(client, ended)
    return jobs.exit_code(ended)


async def _phases(client: AsyncClient, job: Doc[Any], quiet: bool) -> Doc[Any] | None:
    said = ""
    async for state in client.changes(job.kind, job.ref):
        if state is None or state.uid != job.uid:
            return None
        line = _phase_line(state)
        if line != said and not quiet and not jobs.has_ended(state):
            click.echo(click.style(line, dim=True))
            said = line
        if jobs.has_ended(state):
            return state
    return None


def _phase_line(job: Doc[Any]) -> str:
    phase = jobs.phase(job).lower()
    placement = job.status.get("placement") or {}
    where = f" on {placement['pool']}" if placement.get("pool") else ""
    attempt = int(placement.get("attempt") or 1)
    again = f" (attempt {attempt})" if attempt > 1 else ""
    message = next(
        (
            c.get("message", "")
            for c in reversed(job.status.get("conditions") or [])
            if c.get("status") == "False" and c.get("message")
        ),
        "",
    )
    return f"· {phase}{where}{again}" + (
        f" – {message}" if message and phase in {"queued", "starting", "warming"} else ""
    )


async def _print_logs(client: AsyncClient, job: Doc[Any]) -> None:
    colours: dict[str, str] = {}
    async with client.logs(job.name, namespace=job.namespace) as lines:
        async for line in lines:
            print_line(line, colours)


def print_line(line: jobs.LogLine, colours: dict[str, str]) -> None:
    """Print one worker's line with its name in a colour of its own."""
    colour = colours.setdefault(line.worker, _COLOURS[len(colours) % len(_COLOURS)])
    click.echo(f"{click.style(f'[{line.worker}]', fg=colour)} {line.text}")


async def _print_end(client: AsyncClient, job: Doc[Any]) -> None:
    phase = jobs.phase(job)
    good = phase == "Succeeded"
    parts = [
        click.style(f"{'✔' if good else '✘'} {job.name} {phase.lower()}", fg="green" if good else "red", bold=True)
    ]
    status = job.status
    if status.get("startedAt") and status.get("finishedAt"):
        seconds = (parse_time(status["finishedAt"]) - parse_time(status["startedAt"])).total_seconds()
        parts.append(f"ran {human_duration(seconds)}")
    pool = (status.get("placement") or {}).get("pool")
    if pool:
        parts.append(f"on {pool}")
    try:
        bill = await client.usage(namespace=job.namespace, job=job.name)
        parts.append(f"cost {money(bill['total'], bill['currency'])}")
    except HeadraceError:
        pass  # the bill can be asked for later; the end of the job matters now
    click.echo(" · ".join(parts))
    if not good:
        reason = status.get("reason") or ""
        message = status.get("message") or ""
        click.echo(f"  {reason}: {message}" if reason else f"  {message}")
        click.echo(f"  → headrace show {job.name}")
