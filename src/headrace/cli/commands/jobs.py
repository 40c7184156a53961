"""`ps`, `why`, `logs`, `exec`, `stop`: looking at jobs and touching them."""

from __future__ import annotations

import sys
from typing import Any

import click

from headrace.cli import follow, plan
from headrace.cli.session import emit, money, output_option, run, table
from headrace.clock import SystemClock, parse_time
from headrace.errors import NotFound
from headrace.sdk import jobs
from headrace.sdk.client import AsyncClient
from headrace.spec.kind import Doc
from headrace.spec.kinds import POD, TRAIN_JOB
from headrace.spec.names import JOB_LABEL
from headrace.units import human_duration, parse_duration_s


@click.command(epilog="Example:  headrace ps -A -o json")
@click.option("-A", "--all-namespaces", is_flag=True)
@output_option
def ps(all_namespaces: bool, output: str) -> None:
    """List jobs with place, state, time and cost."""

    async def program(client: AsyncClient) -> None:
        namespace = "" if all_namespaces else client.namespace
        found = await client.list(TRAIN_JOB, namespace=namespace)
        if emit([job.raw for job in found], output):
            return
        bill = await client.usage(namespace=namespace, by="job")
        costs = {(row["namespace"], row["job"]): row["cost"] for row in bill["rows"]}
        rows = [_row(job, costs.get((job.namespace, job.name)), bill["currency"], all_namespaces) for job in found]
        heading = ("NAMESPACE",) if all_namespaces else ()
        if rows:
            table((*heading, "NAME", "STATE", "POOL", "WORKERS", "RAN", "COST", "AGE", "WHY"), rows)
        else:
            click.echo("There are no jobs. Run one: headrace run -- python train.py")

    run(program)


def _row(job: Doc[Any], cost: str | None, currency: str, with_namespace: bool) -> tuple[str, ...]:
    status = job.status
    now = SystemClock().now()
    start = parse_time(status["startedAt"]) if status.get("startedAt") else None
    end = parse_time(status["finishedAt"]) if status.get("finishedAt") else now
    message = status.get("message") or ""
    if not jobs.has_ended(job):
        waiting = [c for c in status.get("conditions") or [] if c.get("status") == "False"]
        message = waiting[-1].get("message", "") if waiting and jobs.phase(job) != "Running" else ""
    return (
        *((job.namespace,) if with_namespace else ()),
        job.name,
        jobs.phase(job),
        (status.get("placement") or {}).get("pool") or "–",
        str(job.spec.get("workers", 1)),
        human_duration((end - start).total_seconds()) if start else "–",
        money(cost, currency) if cost is not None else "–",
        human_duration((now - parse_time(job.meta["creationTimestamp"])).total_seconds()),
        message[:80],
    )


@click.command(epilog="Example:  headrace why digits")
@click.argument("job")
@output_option
def why(job: str, output: str) -> None:
    """Say why a job waits, what would help, and what each choice would cost."""

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


@click.command(epilog="Example:  headrace logs -f digits --worker worker-1")
@click.argument("job")
@click.option("-f", "--follow", "following", is_flag=True, help="Go on until the job has ended.")
@click.option("-w", "--worker", default="", help="Only this worker, such as worker-1.")
@click.option("-c", "--container", default="", help="Another container, such as fluid-fuse-0 (the storage client).")
@click.option("--tail", type=int, help="Only the last lines of each worker.")
@click.option("--since", metavar="TIME", help="Only lines younger than this, such as 10m.")
def logs(job: str, following: bool, worker: str, container: str, tail: int | None, since: str | None) -> None:
    """Print the output of a job's workers, each line with its worker's name."""

    async def program(client: AsyncClient) -> None:
        await client.get(TRAIN_JOB, job)
        colours: dict[str, str] = {}
        since_s = parse_duration_s(since) if since else None
        async with client.logs(
            job, follow=following, worker=worker, container=container, tail_lines=tail, since_s=since_s
        ) as lines:
            async for line in lines:
                follow.print_line(line, colours)

    run(program)


@click.command(
    name="exec", context_settings={"ignore_unknown_options": True}, epilog="Example:  headrace exec digits -- ls /data"
)
@click.argument("job")
@click.option("-w", "--worker", default="worker-0", show_default=True)
@click.option("-c", "--container", default=jobs.MAIN_CONTAINER, hidden=True)
@click.argument("command", nargs=-1, required=True)
def exec_(job: str, worker: str, container: str, command: tuple[str, ...]) -> None:
    """Run a command in a worker and return its exit code."""

    async def program(client: AsyncClient) -> int:
        pods = await client.list(POD, labels=f"{JOB_LABEL}={job}")
        running = [p for p in pods if jobs.worker_name(p) == worker and p.status.get("phase") == "Running"]
        if not running:
            raise NotFound(f"{job} has no running {worker}.", hint=f"See what runs with: headrace show {job}")
        result = await client.cluster.exec(running[-1].ref, command, container=container)
        sys.stdout.buffer.write(result.stdout)
        sys.stderr.buffer.write(result.stderr)
        return result.exit_code

    sys.exit(run(program))


@click.command(epilog="Example:  headrace stop digits")
@click.argument("names", nargs=-1, required=True, metavar="JOB...")
def stop(names: tuple[str, ...]) -> None:
    """Stop jobs; they keep their results and their bills."""

    async def program(client: AsyncClient) -> None:
        for name in names:
            await client.stop(name)
            await client.wait(TRAIN_JOB, name, jobs.has_ended, timeout_s=120)
            click.echo(f"{name} stopped")

    run(program)
