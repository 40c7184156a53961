"""Follows a job on the terminal: phases as they come, its workers' lines with a prefix each, and the end in one line."""

from __future__ import annotations

from typing import Any

import anyio
import click

from headrace.cli import jobview
from headrace.cli.session import again, money, warn
from headrace.clock import SystemClock
from headrace.errors import HeadraceError, NotFound
from headrace.sdk import jobs
from headrace.sdk.client import AsyncClient
from headrace.sdk.logs import LogLine
from headrace.sdk.pumping import single_error
from headrace.spec.kind import Doc
from headrace.units import human_duration

_COLOURS = ("cyan", "magenta", "yellow", "green", "blue", "bright_red")
_SILENCE_S = 5.0
"""How long the last lines of a job that has ended may keep us waiting, when nothing comes."""


async def to_the_end(client: AsyncClient, job: Doc[Any], *, quiet: bool = False) -> int:
    """Print what happens to `job` until it has ended and return the exit code for the shell.

    Cancelled (Ctrl-C), it says that the job goes on and how to come back.
    """
    try:
        ended = await _follow(client, job, quiet)
    except anyio.get_cancelled_exc_class():
        click.echo(
            f"\nDetached; {job.name} goes on. Come back with: {again(f'logs -f {job.name}')}"
            f"   Stop it: {again(f'stop {job.name}')}",
            err=True,
            nl=False,  # click ends the line of every command that is interrupted
        )
        raise
    if ended is None:
        click.echo(f"{job.name} was deleted.", err=True)
        return 1
    if not quiet:
        await _print_end(client, ended)
    return jobs.exit_code(ended)


async def _follow(client: AsyncClient, job: Doc[Any], quiet: bool) -> Doc[Any] | None:
    """Return the job as it ended; None when it was deleted."""
    if quiet:
        return await _phases(client, job, quiet)
    lines = Lines()
    with single_error():
        async with anyio.create_task_group() as group:
            group.start_soon(lines.print_all, client, job)
            ended = await _phases(client, job, quiet)
            await lines.silence()
            group.cancel_scope.cancel()
    return ended


async def _phases(client: AsyncClient, job: Doc[Any], quiet: bool) -> Doc[Any] | None:
    said = ""
    async with client.changes(job.kind, job.ref) as states:
        async for state in states:
            if state is None or state.uid != job.uid:
                return None
            if jobs.has_stopped(state):
                return state
            line = jobview.headline(state)
            if line != said and not quiet:
                click.echo(click.style(f"· {line}", dim=True))
                said = line
    return None


class Lines:
    """Prints workers' lines, each with its worker's name in a colour of its own."""

    def __init__(self) -> None:
        self._colours: dict[str, str] = {}
        self._count = 0
        self._ended = anyio.Event()

    def print(self, line: LogLine) -> None:
        self._count += 1
        colour = self._colours.setdefault(line.worker, _COLOURS[len(self._colours) % len(_COLOURS)])
        click.echo(f"{click.style(f'[{line.worker}]', fg=colour)} {line.text}")

    async def print_all(self, client: AsyncClient, job: Doc[Any]) -> None:
        """Print until the job has ended. Output that cannot be had is no reason to stop following the job."""
        try:
            async with client.logs(job.name, namespace=job.namespace) as lines:
                async for line in lines:
                    self.print(line)
        except NotFound:
            pass  # the job was deleted, which is said where its phases are followed
        except HeadraceError as error:
            warn(f"The workers' output cannot be shown: {error.what}")
        finally:
            self._ended.set()

    async def silence(self) -> None:
        """Return when everything has been printed, or nothing more came for a while."""
        before = -1
        while self._count != before and not self._ended.is_set():
            before = self._count
            with anyio.move_on_after(_SILENCE_S):
                await self._ended.wait()


async def _print_end(client: AsyncClient, job: Doc[Any]) -> None:
    good = jobs.phase(job) == "Succeeded"
    text = f"{'✔' if good else '✘'} {job.name} {jobs.phase(job).lower()}"
    parts = [click.style(text, fg="green" if good else "red", bold=True)]
    seconds = jobview.ran_s(job, SystemClock().now())
    if seconds is not None:
        parts.append(f"ran {human_duration(seconds)}")
    if jobview.pool(job):
        parts.append(f"on {jobview.pool(job)}")
    parts += await _cost(client, job)
    click.echo(" · ".join(parts))
    if not good:
        reason, message = job.status.get("reason") or "", job.status.get("message") or ""
        click.echo(f"  {reason}: {message}" if reason else f"  {message}")
        click.echo(f"  → {again(f'show {job.name}')}")


async def _cost(client: AsyncClient, job: Doc[Any]) -> list[str]:
    """Return the bill as a clause; nothing where it cannot be told, for the end of the job matters now."""
    try:
        bill = await client.usage(namespace=job.namespace, job=job.name)
    except HeadraceError:
        return []
    return [f"cost {money(bill['total'], bill['currency'])}" + ("" if bill.get("final", True) else " so far")]
