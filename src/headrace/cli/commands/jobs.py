"""`ps`, `why`, `stop`: looking at jobs and ending them."""

from __future__ import annotations

import datetime as dt
from typing import Any

import click

from headrace.cli import completing, jobview, plan
from headrace.cli.session import (
    again,
    cluster_options,
    emit,
    everywhere_option,
    money,
    object_list,
    output_option,
    run,
    table,
    warn,
)
from headrace.clock import SystemClock, parse_time
from headrace.errors import HeadraceError
from headrace.sdk import jobs
from headrace.sdk.client import AsyncClient
from headrace.spec.kind import Doc, Json
from headrace.spec.kinds import TRAIN_JOB
from headrace.units import human_duration

_WHY_WIDTH = 100
_STOP_MARGIN_S = 90.0


@click.command(epilog="Example:  headrace ps -A -o json")
@everywhere_option
@cluster_options
@output_option
def ps(everywhere: bool, output: str) -> None:
    """List jobs with place, state, time and cost."""

    async def program(client: AsyncClient) -> None:
        namespace = "" if everywhere else client.namespace
        found = await client.list(TRAIN_JOB, namespace=namespace)
        found.sort(key=lambda job: (str(job.meta.get("creationTimestamp", "")), job.name))
        if emit(object_list([job.raw for job in found]), output):
            return
        if not found:
            where = "" if everywhere else f" in namespace {namespace}"
            click.echo(f"There are no jobs{where}. Run one: {again('run -- python train.py')}")
            return
        costs = await _costs(client, namespace)
        now = SystemClock().now()
        heading = ("NAMESPACE",) if everywhere else ()
        rows = [
            (*((job.namespace,) if everywhere else ()), *_row(job, costs.get((job.namespace, job.name), "–"), now))
            for job in found
        ]
        table((*heading, "NAME", "STATE", "POOL", "WORKERS", "RAN", "COST", "AGE", "WHY"), rows)

    run(program)


async def _costs(client: AsyncClient, namespace: str) -> dict[tuple[str, str], str]:
    """Return what each job has cost; nothing, and a word about it, where bills cannot be had."""
    try:
        rows: list[Json] = (await client.usage(namespace=namespace, by="job"))["rows"]
    except HeadraceError as error:
        warn(f"Costs are unknown: {error.what}")
        return {}
    return {(row["namespace"], row["job"]): money(row["cost"], row["currency"]) for row in rows}


def _row(job: Doc[Any], cost: str, now: dt.datetime) -> tuple[str, ...]:
    ran_s = jobview.ran_s(job, now)
    why = jobview.message(job)
    return (
        job.name,
        jobs.phase(job),
        jobview.pool(job) or "–",
        str(jobs.worker_count(job)),
        "–" if ran_s is None else human_duration(ran_s),
        cost,
        human_duration((now - parse_time(job.meta["creationTimestamp"])).total_seconds()),
        why if len(why) <= _WHY_WIDTH else f"{why[: _WHY_WIDTH - 1]}…",
    )


@click.command(epilog="Example:  headrace why digits")
@click.argument("job", shell_complete=completing.jobs)
@cluster_options
@output_option
def why(job: str, output: str) -> None:
    """Say why a job waits, and what each choice would cost.

    Also what stands in the way, what would help, and where each figure comes from.
    """

    async def program(client: AsyncClient) -> None:
        answer = await client.why(job)
        if emit(answer, output):
            return
        click.echo(f"{click.style(job, bold=True)}   {answer['phase'].lower()}: {answer['summary']}")
        for blocker in answer.get("blockers", []):
            click.echo(f"  blocked by  {blocker['message']}")
        for remedy in answer.get("helps", []):
            click.echo(f"  would help  {remedy}")
        plan.show_choices(answer)
        for figure in answer.get("figures", []):
            click.echo(click.style(f"  {figure['name']}: {figure['value']} ({figure['source']})", dim=True))

    run(program)


@click.command(epilog="Example:  headrace stop digits")
@click.argument("names", nargs=-1, required=True, metavar="JOB...", shell_complete=completing.jobs)
@click.option("--wait/--no-wait", "waiting", default=True, help="Wait until their workers have ended.")
@cluster_options
@output_option
def stop(names: tuple[str, ...], waiting: bool, output: str) -> None:
    """Stop jobs; they keep their results and their bills."""

    async def program(client: AsyncClient) -> None:
        asked = [await client.stop(name) for name in names]
        ended = [await _ended(client, job) if waiting else job for job in asked]
        if emit(object_list([job.raw for job in ended]), output):
            return
        for job in ended:
            phase = jobs.phase(job)
            if jobs.is_finished(job):
                click.echo(f"{job.name} had ended already: {phase}")
            else:
                click.echo(f"{job.name} stopped" if phase == jobs.SUSPENDED else f"{job.name} stops")

    run(program)


async def _ended(client: AsyncClient, job: Doc[Any]) -> Doc[Any]:
    """Wait for a job to stop, for its own grace period and some more."""
    grace_s = float((job.spec.get("checkpoint") or {}).get("graceSeconds") or 30)
    ended = await client.wait(
        TRAIN_JOB,
        job.name,
        lambda state: state is None or jobs.has_stopped(state),
        namespace=job.namespace,
        timeout_s=grace_s + _STOP_MARGIN_S,
    )
    return ended or job
