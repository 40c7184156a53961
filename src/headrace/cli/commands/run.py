"""`headrace run`: submit a training job, print the plan before it is paid for, and follow it to its exit code."""

from __future__ import annotations

import sys
from typing import Any, get_args

import click

from headrace.cli import follow, plan
from headrace.cli.jobspec import described
from headrace.cli.session import again, cluster_options, emit, output_option, warn
from headrace.cli.session import run as run_session
from headrace.cli.words import DURATION_TEXT
from headrace.errors import Unavailable
from headrace.sdk.client import AsyncClient
from headrace.spec.headrace.trainjob import Framework, Priority
from headrace.spec.kind import Json


@click.command(
    name="run",
    epilog="Example:  headrace run -w 2 --mount starfs-pvc:/data --memory 2Gi -- python train.py --data /data",
)
@click.option("-f", "--file", "source", metavar="FILE", help="A TrainJob; options change it. - is standard input.")
@click.option("--name", metavar="NAME", help="Name of the job; made up when left out.")
@click.option(
    "-w", "--workers", type=click.IntRange(1), metavar="N", help="Number of workers, started together or not at all."
)
@click.option(
    "--framework",
    type=click.Choice(get_args(Framework)),
    metavar="NAME",
    help=f"How workers find each other: {', '.join(get_args(Framework))}.",
)
@click.option("--image", metavar="IMAGE", help="Container image; this machine's files by default.")
@click.option("--cpu", metavar="CORES", help="CPUs of one worker, such as 2 or 500m.")
@click.option("--memory", metavar="SIZE", help="Memory of one worker, such as 4Gi.")
@click.option("--gpu", metavar="GPUS", help="GPUs of one worker, such as 1 or A100:2.")
@click.option(
    "-m",
    "--mount",
    "mounts",
    multiple=True,
    metavar="CLAIM:PATH[:ro]",
    help="Mount a claim, or a URL such as s3://bucket/train; repeatable.",
)
@click.option("-e", "--env", "variables", multiple=True, metavar="NAME=VALUE", help="Environment; repeatable.")
@click.option(
    "-C",
    "--code",
    metavar="DIRECTORY",
    help="Code to pack and unpack in each worker; this directory by default when the command names a file in it.",
)
@click.option("--queue", metavar="NAME", help="Queue to wait in.")
@click.option(
    "--priority",
    type=click.Choice(get_args(Priority)),
    metavar="NAME",
    help=f"Who goes first: {', '.join(get_args(Priority))}.",
)
@click.option("--pool", "pools", multiple=True, metavar="NAME", help="Only this pool; repeatable.")
@click.option("--duration", type=DURATION_TEXT, metavar="TIME", help="How long it is expected to run, such as 2h.")
@click.option("-d", "--detach", is_flag=True, help="Submit and return.")
@click.option("--dry-run", is_flag=True, help="Check the job and print the plan; submit nothing.")
@cluster_options
@output_option
@click.argument("command", nargs=-1, metavar="[--] COMMAND...")
def run(source: str | None, output: str, detach: bool, dry_run: bool, **given: Any) -> None:
    """Run a training job and follow it.

    Ctrl-C detaches; the job goes on. The exit code is the job's.
    """
    job, base = described(source, given)

    async def program(client: AsyncClient) -> int:
        quote = await _quote(client, job)
        created = await client.submit(job, base=base, dry_run=dry_run)
        if dry_run:
            if not emit({"job": created.raw, "plan": quote}, output):
                plan.show(created, quote)
            return 0
        if output == "table":
            plan.show(created, quote)
        if detach:
            if not emit(created.raw, output):
                click.echo(f"Follow it with: {again(f'logs -f {created.name}')}")
            return 0
        code = await follow.to_the_end(client, created, quiet=output != "table")
        if output != "table":
            emit((await client.get(created.kind, created.name, namespace=created.namespace)).raw, output)
        return code

    sys.exit(run_session(program))


async def _quote(client: AsyncClient, job: Json) -> Json:
    """Return the plan; none, and a word about it, where nobody computes one."""
    try:
        return await client.quote(job)
    except Unavailable as error:
        warn(f"There is no plan: {error.what}")
        return {}
