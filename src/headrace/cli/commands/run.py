"""`headrace run`: submit a training job, print the plan before it is paid for, and follow it to its exit code."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

import anyio
import click

from headrace.cli import follow, plan
from headrace.cli.session import emit, output_option
from headrace.cli.session import run as run_session
from headrace.errors import InvalidSpec
from headrace.sdk import manifests
from headrace.sdk.client import AsyncClient
from headrace.spec.kind import Json


@click.command(
    name="run",
    epilog="Example:  headrace run -w 2 --mount starfs-pvc:/data --memory 2Gi -- python train.py --data /data",
)
@click.option("-f", "--file", "source", metavar="FILE", help="A TrainJob; options below change it.")
@click.option("--name", help="Name of the job; made up when left out.")
@click.option("-w", "--workers", type=click.IntRange(1), help="Number of workers, started together or not at all.")
@click.option("--framework", help="pytorch or none: which variables the workers find each other by.")
@click.option("--cpu", help="CPUs of one worker.")
@click.option("--memory", help="Memory of one worker, such as 4Gi.")
@click.option("--gpu", help="GPUs of one worker, such as A100:1.")
@click.option("-m", "--mount", "mounts", multiple=True, metavar="CLAIM:PATH[:ro]", help="Mount a claim; repeatable.")
@click.option("-e", "--env", "variables", multiple=True, metavar="NAME=VALUE", help="Environment; repeatable.")
@click.option("-C", "--code", metavar="DIRECTORY", help="Code to pack and unpack in each worker.")
@click.option("--queue", help="Queue to wait in.")
@click.option("--pool", "pools", multiple=True, help="Only this pool; repeatable.")
@click.option("--duration", metavar="TIME", help="How long it is expected to run, such as 2h.")
@click.option("-d", "--detach", is_flag=True, help="Submit and return.")
@click.option("--dry-run", is_flag=True, help="Check the job and print the plan; submit nothing.")
@output_option
@click.argument("command", nargs=-1)
def run(source: str | None, output: str, detach: bool, dry_run: bool, **given: Any) -> None:
    """Run a training job and follow it.

    Ctrl-C detaches; the job goes on. The exit code is the job's.
    """
    job, base = _job(source, given)

    async def program(client: AsyncClient) -> int:
        quote = await client.quote(job)
        if dry_run:
            created = await client.submit(job, base=base, dry_run=True)
            if not emit({"job": created.raw, "plan": quote}, output):
                plan.show(created, quote)
            return 0
        created = await client.submit(job, base=base)
        if detach:
            if not emit(created.raw, output):
                plan.show(created, quote)
                click.echo(f"Follow it with: headrace logs -f {created.name}")
            return 0
        if output == "table":
            plan.show(created, quote)
        code = await follow.to_the_end(client, created, quiet=output != "table")
        if output != "table":
            emit((await client.get(created.kind, created.name, namespace=created.namespace)).raw, output)
        return code

    try:
        sys.exit(run_session(program))
    except (KeyboardInterrupt, anyio.get_cancelled_exc_class()):
        sys.exit(130)


def _job(source: str | None, given: dict[str, Any]) -> tuple[Json, Path]:
    """Return the TrainJob that file and options describe, and the directory its relative paths start from."""
    job: Json = {"apiVersion": "headrace.io/v1alpha1", "kind": "TrainJob", "metadata": {}, "spec": {}}
    base = Path.cwd()
    if source is not None:
        found = manifests.read([source])
        if len(found) != 1:
            raise InvalidSpec(
                f"{source} holds {len(found)} objects; run takes one TrainJob.", hint="Use: headrace apply -f"
            )
        job = found[0]
        base = Path(source).resolve().parent if source != "-" else base
    spec = job.setdefault("spec", {})
    if given["command"]:
        spec["command"] = list(given["command"])
    if "command" not in spec:
        raise InvalidSpec("There is nothing to run.", hint="Give a command after --, or a file with -f.")
    if given["name"]:
        job.setdefault("metadata", {})["name"] = given["name"]
    for option, field in (
        ("workers", "workers"),
        ("framework", "framework"),
        ("queue", "queue"),
        ("duration", "expectedDuration"),
    ):
        if given[option] is not None:
            spec[field] = given[option]
    resources = {key: given[key] for key in ("cpu", "memory", "gpu") if given[key] is not None}
    if resources:
        spec["resources"] = {**spec.get("resources", {}), **resources}
    if given["pools"]:
        spec["pools"] = list(given["pools"])
    if given["code"]:
        spec["code"] = {"directory": str(Path(given["code"]).resolve())}
    elif source is None:
        _take_code_along(spec)
    if given["mounts"]:
        spec["mounts"] = [*spec.get("mounts", []), *map(_mount, given["mounts"])]
    if given["variables"]:
        spec["env"] = {**spec.get("env", {}), **dict(map(_variable, given["variables"]))}
    return job, base


def _take_code_along(spec: Json) -> None:
    """Pack the current directory when the command names a file in it: `python train.py` then just works."""
    if any((Path.cwd() / word).is_file() and not Path(word).is_absolute() for word in spec["command"]):
        spec.setdefault("code", {"directory": "."})


def _mount(text: str) -> Json:
    claim, _, rest = text.partition(":")
    path, _, mode = rest.partition(":")
    if not claim or not path.startswith("/") or mode not in {"", "ro", "rw"}:
        raise InvalidSpec(f"--mount {text!r} is not CLAIM:PATH.", hint="Write for example --mount starfs-pvc:/data:ro")
    return {"claim": claim, "path": path, **({"readOnly": True} if mode == "ro" else {})}


def _variable(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise InvalidSpec(f"--env {shlex.quote(text)} is not NAME=VALUE.", hint="Write for example --env EPOCHS=5")
    return name, value
