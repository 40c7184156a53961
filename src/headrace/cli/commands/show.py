"""`headrace show`: one job, whole: what was written, where it ran, how its pods and claims really looked, the bill."""

from __future__ import annotations

import shlex
from typing import Any

import click

from headrace.cli import completing, jobview
from headrace.cli.session import cluster_options, emit, money, output_option, run, table, warn
from headrace.clock import parse_time
from headrace.errors import HeadraceError, NotFound
from headrace.sdk import jobs
from headrace.sdk.client import AsyncClient
from headrace.sdk.insight import ClientUse, client_use
from headrace.spec.kind import Doc, Json
from headrace.spec.kinds import PERSISTENT_VOLUME_CLAIM, POD, TRAIN_JOB
from headrace.spec.names import ATTEMPT_LABEL, JOB_LABEL, MATERIALISE_PREFIX, SIDECAR_PREFIX
from headrace.units import human_bytes, human_duration

_CLIENT = "storage client"


@click.command(epilog="Example:  headrace show digits")
@click.argument("job", shell_complete=completing.jobs)
@cluster_options
@output_option
def show(job: str, output: str) -> None:
    """Show a job: what you wrote, where and how it ran."""

    async def program(client: AsyncClient) -> None:
        doc = await client.get(TRAIN_JOB, job)
        pods = sorted(await client.list(POD, labels=f"{JOB_LABEL}={job}"), key=_order)
        bill = await _bill(client, doc)
        if emit({"job": doc.raw, "pods": [pod.raw for pod in pods], "bill": bill}, output):
            return
        _print_job(doc)
        for pod in pods:
            _print_pod(pod)
        for mount in doc.spec.get("mounts") or []:
            await _print_mount(client, mount)
        for use in client_use(pods):
            _print_use(use)
        if bill is not None and bill["rows"]:
            seconds = sum(row["seconds"] for row in bill["rows"])
            so_far = "" if bill.get("final", True) else " so far"
            _line("bill", f"{seconds} s · {money(bill['total'], bill['currency'])}{so_far}")

    run(program)


async def _bill(client: AsyncClient, doc: Doc[Any]) -> Json | None:
    try:
        return await client.usage(namespace=doc.namespace, job=doc.name, by="span")
    except HeadraceError as error:
        warn(f"The bill is unknown: {error.what}")
        return None


def _order(pod: Doc[Any]) -> tuple[int, str]:
    attempt = pod.labels.get(ATTEMPT_LABEL, "")
    return int(attempt) if attempt.isdecimal() else 0, pod.name


def _print_use(use: ClientUse) -> None:
    counted = use.counters
    hits = "–" if counted.hit_ratio is None else f"{counted.hit_ratio:.0%}"
    fetched, sent, read = (_bytes(size) for size in (counted.fetched_bytes, counted.sent_bytes, counted.read_bytes))
    _line(
        "line",
        f"{use.worker} {use.dataset}: fetched {fetched}, sent {sent}, read {read}, cache hits {hits} ({counted.client}'s own counters)",
    )


def _bytes(size: int | None) -> str:
    """Return a size for a person; what a client does not count is a dash, never zero."""
    return "–" if size is None else human_bytes(size)


def _line(heading: str, text: str) -> None:
    click.echo(f"{heading:<8} {text}")


def _print_job(doc: Doc[Any]) -> None:
    spec, status = doc.spec, doc.status
    placement = status.get("placement") or {}
    click.echo(f"{click.style(doc.name, bold=True)}   {jobview.headline(doc)}")
    for role, command in _commands(spec):
        _line("command", f"{shlex.join(str(word) for word in command)}{f'   ({role})' if role else ''}")
    code = spec.get("code") or {}
    if code:
        _line("code", str(next(iter(code.values()), "")))
    if placement.get("message"):
        _line("decided", placement["message"])
    for attempt in status.get("attempts") or []:
        outcome = attempt.get("outcome") or "goes on"
        why = f": {attempt['message']}" if attempt.get("message") and outcome != "Succeeded" else ""
        _line("attempt", f"{attempt.get('attempt')} on {attempt.get('pool')}: {outcome}{why}")
    if jobs.is_finished(doc) and status.get("message"):
        _line("ended", f"{status.get('reason') or ''}: {status['message']}".removeprefix(": "))
    for condition in status.get("conditions") or []:
        if condition.get("type") == "Unsupported" and condition.get("status") == "True":
            _line("ignored", str(condition.get("message") or ""))


def _commands(spec: Json) -> list[tuple[str, list[Any]]]:
    roles = spec.get("roles") or {}
    own = [(name, (role or {}).get("command")) for name, role in roles.items() if (role or {}).get("command")]
    return [*([("", spec["command"])] if spec.get("command") else []), *own]


def _print_pod(pod: Doc[Any]) -> None:
    entries = [*(pod.status.get("initContainerStatuses") or []), *(pod.status.get("containerStatuses") or [])]
    statuses = {entry["name"]: entry for entry in entries}
    phase = pod.status.get("phase", "Pending")
    _line("pod", f"{pod.name}   {phase} on node {pod.spec.get('nodeName') or '–'}")
    rows = [
        (
            container["name"],
            _whose(container["name"]),
            _state(statuses.get(container["name"]) or {}),
            _privileges(container),
            _paths(container, pod),
        )
        for container in [*(pod.spec.get("initContainers") or []), *(pod.spec.get("containers") or [])]
    ]
    table(("CONTAINER", "WHOSE", "STATE", "PRIVILEGES", "MOUNTS"), rows, indent=" " * 9)


def _whose(container: str) -> str:
    if container.startswith((SIDECAR_PREFIX, MATERIALISE_PREFIX)):
        return _CLIENT
    return "yours" if container == jobs.MAIN_CONTAINER else "set-up"


def _paths(container: Json, pod: Doc[Any]) -> str:
    """Return where a container mounts something; of a storage client, where others find what it serves."""
    name = container["name"]
    if _whose(name) != _CLIENT:
        return ", ".join(mount["mountPath"] for mount in container.get("volumeMounts") or [])
    others = [other for other in pod.spec.get("containers") or [] if other["name"] != name]
    mounts = [mount for other in others for mount in other.get("volumeMounts") or []]
    served = [mount["mountPath"] for mount in mounts if mount["name"].startswith(f"{name}-")]
    return f"serves {', '.join(dict.fromkeys(served))}" if served else ""


def _state(status: Json) -> str:
    state = status.get("state") or {}
    if "terminated" in state:
        ended = state["terminated"]
        text = f"exit {ended.get('exitCode')}"
        if ended.get("startedAt") and ended.get("finishedAt"):
            seconds = (parse_time(ended["finishedAt"]) - parse_time(ended["startedAt"])).total_seconds()
            text += f" after {human_duration(seconds)}"
        return text
    return "running" if "running" in state else str((state.get("waiting") or {}).get("reason") or "waiting")


def _privileges(container: Json) -> str:
    context = container.get("securityContext") or {}
    if context.get("privileged"):
        return "privileged"
    added = (context.get("capabilities") or {}).get("add")
    return "+" + ",".join(added) if added else "none"


async def _print_mount(client: AsyncClient, mount: Json) -> None:
    """Print a claim as it is now: its spec is the user's own, which its generation shows."""
    name = mount.get("claim")
    if not name:
        _line("mount", f"{mount.get('source')} at {mount.get('path')}")
        return
    try:
        claim = await client.get(PERSISTENT_VOLUME_CLAIM, name)
    except NotFound:
        _line("claim", f"{name}   missing")
        return
    volume = claim.spec.get("volumeName")
    bound = f"{claim.status.get('phase') or 'Pending'}{f' to {volume}' if volume else ''}"
    _line(
        "claim", f"{name} at {mount.get('path')}   {bound}, spec as you wrote it (generation {claim.generation or 1})"
    )
