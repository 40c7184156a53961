"""`headrace show`: one job, whole: what was written, where it ran, how its pods and claims really looked, the bill."""

from __future__ import annotations

from typing import Any

import click

from headrace.cli.session import emit, money, output_option, run, table
from headrace.clock import parse_time
from headrace.errors import NotFound
from headrace.sdk import jobs
from headrace.sdk.client import AsyncClient
from headrace.sdk.insight import ClientUse, client_use
from headrace.spec.kind import Doc, Json
from headrace.spec.kinds import PERSISTENT_VOLUME_CLAIM, POD, TRAIN_JOB
from headrace.spec.names import JOB_LABEL, SIDECAR_PREFIX
from headrace.units import human_bytes, human_duration


@click.command(epilog="Example:  headrace show digits")
@click.argument("job")
@output_option
def show(job: str, output: str) -> None:
    """Show a job: what you wrote, where and how it ran."""

    async def program(client: AsyncClient) -> None:
        doc = await client.get(TRAIN_JOB, job)
        pods = sorted(await client.list(POD, labels=f"{JOB_LABEL}={job}"), key=lambda pod: pod.name)
        if emit({"job": doc.raw, "pods": [pod.raw for pod in pods]}, output):
            return
        _print_job(doc)
        for pod in pods:
            _print_pod(pod)
        for mount in doc.spec.get("mounts") or []:
            await _print_claim(client, mount)
        for use in client_use(pods):
            _print_use(use)
        bill = await client.usage(job=job, by="span")
        if bill["rows"]:
            click.echo(
                f"bill     {sum(r['seconds'] for r in bill['rows'])} s · {money(bill['total'], bill['currency'])}"
            )

    run(program)


def _print_use(use: ClientUse) -> None:
    counted = use.counters
    hits = "–" if counted.hit_ratio is None else f"{counted.hit_ratio:.0%}"
    click.echo(
        f"line     {use.worker} {use.dataset}: fetched {_bytes(counted.fetched_bytes)}, sent {_bytes(counted.sent_bytes)}, "
        f"read by the job {_bytes(counted.read_bytes)}, cache hits {hits} ({counted.client}'s own counters)"
    )


def _bytes(size: int | None) -> str:
    """Return a size for a person; what a client does not count is a dash, never zero."""
    return "–" if size is None else human_bytes(size)


def _print_job(doc: Doc[Any]) -> None:
    status = doc.status
    placement = status.get("placement") or {}
    click.echo(
        f"{click.style(doc.name, bold=True)}   {jobs.phase(doc)}"
        + (f" on {placement['pool']}" if placement.get("pool") else "")
    )
    click.echo(f"command  {' '.join(doc.spec.get('command') or [])}")
    if placement.get("message"):
        click.echo(f"decided  {placement['message']}")
    for attempt in status.get("attempts") or []:
        click.echo(
            f"attempt  {attempt.get('attempt')} on {attempt.get('pool')}: {attempt.get('outcome') or 'running'} {attempt.get('reason') or ''}".rstrip()
        )
    if status.get("message"):
        click.echo(f"ended    {status.get('reason') or ''}: {status['message']}")


def _print_pod(pod: Doc[Any]) -> None:
    statuses = {
        s["name"]: s
        for s in [*(pod.status.get("initContainerStatuses") or []), *(pod.status.get("containerStatuses") or [])]
    }
    click.echo(f"pod      {pod.name}   {pod.status.get('phase', 'Pending')} on node {pod.spec.get('nodeName', '–')}")
    rows = []
    for container in [*(pod.spec.get("initContainers") or []), *(pod.spec.get("containers") or [])]:
        role = (
            "storage client"
            if container["name"].startswith(SIDECAR_PREFIX)
            else "yours"
            if container["name"] == jobs.MAIN_CONTAINER
            else "set-up"
        )
        rows.append(
            (
                container["name"],
                role,
                _state(statuses.get(container["name"]) or {}),
                _privileges(container),
                _mounts(container),
            )
        )
    table(("CONTAINER", "WHOSE", "STATE", "PRIVILEGES", "MOUNTS"), rows, indent="         ")


def _state(status: Json) -> str:
    state = status.get("state") or {}
    if "terminated" in state:
        ended = state["terminated"]
        seconds = ""
        if ended.get("startedAt") and ended.get("finishedAt"):
            seconds = f" after {human_duration((parse_time(ended['finishedAt']) - parse_time(ended['startedAt'])).total_seconds())}"
        return f"exit {ended.get('exitCode')}{seconds}"
    return "running" if "running" in state else (state.get("waiting") or {}).get("reason", "waiting")


def _privileges(container: Json) -> str:
    context = container.get("securityContext") or {}
    if context.get("privileged"):
        return "privileged"
    added = (context.get("capabilities") or {}).get("add")
    return "+" + ",".join(added) if added else "none"


def _mounts(container: Json) -> str:
    return ", ".join(m["mountPath"] for m in container.get("volumeMounts") or [])


async def _print_claim(client: AsyncClient, mount: Json) -> None:
    name = mount.get("claim")
    if not name:
        return
    try:
        claim = await client.get(PERSISTENT_VOLUME_CLAIM, name)
    except NotFound:
        click.echo(f"claim    {name}   missing")
        return
    click.echo(
        f"claim    {name} at {mount.get('path')}   {claim.status.get('phase', '')} to {claim.spec.get('volumeName', '–')}, spec as you wrote it (generation {claim.generation or 1})"
    )
