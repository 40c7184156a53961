"""`headrace describe`: one object with its conditions and events, read as a person would."""

from __future__ import annotations

from typing import Any

import click

from headrace.cli import completing, targets
from headrace.cli.session import cluster_options, emit, output_option, run, table
from headrace.clock import SystemClock, parse_time
from headrace.errors import InvalidSpec
from headrace.sdk.client import AsyncClient
from headrace.spec.kind import Doc, Json
from headrace.spec.kinds import EVENT
from headrace.spec.names import LAST_APPLIED_ANNOTATION
from headrace.units import human_duration


@click.command(epilog="Example:  headrace describe pvc starfs-pvc")
@click.argument("kind", metavar="KIND|KIND/NAME", shell_complete=completing.kinds)
@click.argument("name", required=False, shell_complete=completing.names)
@cluster_options
@output_option
def describe(kind: str, name: str | None, output: str) -> None:
    """Print one object with its conditions and events."""
    found = targets.named((kind, name) if name else (kind,))
    if len(found) > 1:
        raise InvalidSpec("One object at a time.", hint="Write: headrace describe KIND NAME")
    wanted, named = found[0]

    async def program(client: AsyncClient) -> None:
        doc = await client.get(wanted, named)
        events = await _events(client, doc)
        if emit({"object": doc.raw, "events": [event.raw for event in events]}, output):
            return
        emit(_readable(doc), "yaml")
        conditions = doc.status.get("conditions") or []
        if conditions:
            click.echo("\nConditions")
            rows = [[c.get(key, "") for key in ("type", "status", "reason", "message")] for c in conditions]
            table(("TYPE", "STATUS", "REASON", "MESSAGE"), rows, indent="  ")
        _print_events(events)

    run(program)


def _readable(doc: Doc[Any]) -> Json:
    """Return the object without what is shown elsewhere or helps nobody who reads."""
    meta = {key: value for key, value in doc.meta.items() if key != "managedFields"}
    annotations = {key: value for key, value in doc.annotations.items() if key != LAST_APPLIED_ANNOTATION}
    if annotations or "annotations" in meta:
        meta["annotations"] = annotations
    raw = {**doc.raw, "metadata": {key: value for key, value in meta.items() if value not in ({}, [])}}
    status = {key: value for key, value in doc.status.items() if key != "conditions"}
    if status:
        return {**raw, "status": status}
    return {key: value for key, value in raw.items() if key != "status"}


async def _events(client: AsyncClient, doc: Doc[Any]) -> list[Doc[Any]]:
    """Return what happened to an object, oldest first."""
    found = await client.list(EVENT, namespace=doc.namespace or "default")
    about = [event for event in found if (event.raw.get("involvedObject") or {}).get("uid") == doc.uid]
    return sorted(about, key=_moment)


def _print_events(events: list[Doc[Any]]) -> None:
    if not events:
        return
    now = SystemClock().now()
    click.echo("\nEvents")
    rows = []
    for event in events:
        age_s = (now - parse_time(_moment(event))).total_seconds()
        times = int(event.raw.get("count") or (event.raw.get("series") or {}).get("count") or 1)
        when = f"{human_duration(age_s)} ago" + (f" ×{times}" if times > 1 else "")
        rows.append((when, *(event.raw.get(key) or "" for key in ("type", "reason", "message"))))
    table(("WHEN", "TYPE", "REASON", "MESSAGE"), rows, indent="  ")


def _moment(event: Doc[Any]) -> str:
    series = event.raw.get("series") or {}
    found = series.get("lastObservedTime") or event.raw.get("lastTimestamp") or event.raw.get("eventTime")
    return str(found or event.meta.get("creationTimestamp"))
