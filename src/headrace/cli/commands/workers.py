"""`logs` and `exec`: what a job's workers say, and commands run beside them."""

from __future__ import annotations

import json
import sys

import click

from headrace.cli import completing, terminal
from headrace.cli.follow import Lines
from headrace.cli.session import cluster_options, emit, output_option, run, warn
from headrace.cli.words import DURATION
from headrace.errors import InvalidSpec
from headrace.sdk import jobs
from headrace.sdk.client import AsyncClient
from headrace.sdk.logs import LogLine


@click.command(epilog="Example:  headrace logs -f digits --worker worker-1")
@click.argument("job", shell_complete=completing.jobs)
@click.option("-f", "--follow", "following", is_flag=True, help="Go on until the job has ended.")
@click.option("-w", "--worker", default="", metavar="WORKER", help="Only this worker, such as worker-1.")
@click.option(
    "-c",
    "--container",
    default="",
    metavar="NAME",
    help="Another container, such as fluid-fuse-0 (the storage client).",
)
@click.option("--tail", type=click.IntRange(0), metavar="LINES", help="Only the last lines of each worker.")
@click.option("--since", type=DURATION, metavar="TIME", help="Only lines younger than this, such as 10m.")
@cluster_options
@click.option(
    "-o",
    "--output",
    type=click.Choice(["table", "json", "yaml"]),
    default="table",
    show_default=True,
    help="Format; json is one object a line.",
)
def logs(
    job: str, following: bool, worker: str, container: str, tail: int | None, since: float | None, output: str
) -> None:
    """Print or follow the output of a job's workers.

    Each line begins with its worker's name.
    """

    async def program(client: AsyncClient) -> None:
        printer = Lines()
        show = printer.print if output == "table" else _as_json if output == "json" else _as_yaml
        has_shown = False
        async with client.logs(
            job, follow=following, worker=worker, container=container, tail_lines=tail, since_s=since
        ) as lines:
            async for line in lines:
                show(line)
                has_shown = True
        if not has_shown:
            warn(f"No worker of {job} has printed anything that is still kept.")

    run(program)


def _as_json(line: LogLine) -> None:
    click.echo(json.dumps(line._asdict(), ensure_ascii=False))


def _as_yaml(line: LogLine) -> None:
    emit([line._asdict()], "yaml")


@click.command(
    name="exec",
    context_settings={"ignore_unknown_options": True},
    epilog="Examples:  headrace exec digits -- ls /data   headrace exec -it digits -w worker-1 -- sh",
)
@click.argument("job", shell_complete=completing.jobs)
@click.option(
    "-w", "--worker", default="", metavar="WORKER", help="Which worker, such as worker-1; the first by default."
)
@click.option(
    "-c", "--container", default=jobs.MAIN_CONTAINER, metavar="NAME", help="Another container than the job's own."
)
@click.option("-i", "--stdin", "interactive", is_flag=True, help="Pass this command's input on.")
@click.option("-t", "--tty", is_flag=True, help="Give the command a terminal.")
@cluster_options
@output_option
@click.argument("command", nargs=-1, required=True)
def exec_(
    job: str, worker: str, container: str, interactive: bool, tty: bool, output: str, command: tuple[str, ...]
) -> None:
    """Run a command in a worker.

    Its exit code is this command's.
    """
    if tty and not (sys.stdin.isatty() and interactive):
        raise InvalidSpec("-t needs a terminal to pass on.", hint="Use -it in a terminal, or leave -t out.")

    async def program(client: AsyncClient) -> int:
        if output != "table":
            result = await client.exec(job, command, worker=worker, container=container)
            texts = {"stdout": result.stdout.decode(errors="replace"), "stderr": result.stderr.decode(errors="replace")}
            emit({"exitCode": result.exit_code, **texts}, output)
            return result.exit_code
        pod = await client.worker_pod(job, worker)
        return await terminal.attach(
            client.cluster, pod.ref, command, container=container, interactive=interactive, tty=tty
        )

    sys.exit(run(program))
