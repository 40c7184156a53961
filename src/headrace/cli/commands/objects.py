"""`apply get describe label annotate delete wait`: objects, for people who do not have kubectl at hand."""

from __future__ import annotations

from typing import Any

import click

from headrace.cli.session import emit, output_option, run, table
from headrace.clock import SystemClock, parse_time
from headrace.errors import InvalidSpec, NotFound
from headrace.sdk import manifests
from headrace.sdk.client import AsyncClient
from headrace.spec.kind import Doc, Kind
from headrace.spec.kinds import EVENT
from headrace.units import human_duration, parse_duration_s

_TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"


@click.command(epilog="Example:  headrace apply -f profile.yaml -f claim.yaml")
@click.option("-f", "--file", "sources", multiple=True, required=True, metavar="FILE", help="File, directory or -.")
@click.option("--dry-run", is_flag=True, help="Ask the server, change nothing.")
@output_option
def apply(sources: tuple[str, ...], dry_run: bool, output: str) -> None:
    """Create objects, or change them to what the files say. Repeating it changes nothing."""

    async def program(client: AsyncClient) -> None:
        results = []
        for manifest in manifests.read(sources):
            outcome, doc = await client.apply(manifest, dry_run=dry_run)
            results.append(doc.raw)
            if output == "table":
                click.echo(f"{doc.kind.singular}/{doc.name} {outcome}{' (dry run)' if dry_run else ''}")
        emit(results, output)

    run(program)


@click.command(epilog="Example:  headrace get datasets,thinruntimes -o yaml")
@click.argument("kinds")
@click.argument("names", nargs=-1)
@click.option("-A", "--all-namespaces", is_flag=True)
@click.option("-l", "--selector", default="", help="Labels, such as headrace.io/job=digits.")
@output_option
def get(kinds: str, names: tuple[str, ...], all_namespaces: bool, selector: str, output: str) -> None:
    """Print objects: KINDS is one kind or several with commas, or KIND/NAME."""

    async def program(client: AsyncClient) -> None:
        for number, (kind, wanted) in enumerate(_targets(kinds, names)):
            if output != "table":
                found = await _find(client, kind, wanted, all_namespaces, selector)
                emit(found[0].raw if len(wanted) == 1 else [doc.raw for doc in found], output)
                continue
            if number:
                click.echo()
            await _print_table(client, kind, wanted, all_namespaces, selector)

    run(program)


def _targets(kinds: str, names: tuple[str, ...]) -> list[tuple[Kind[Any], list[str]]]:
    if "/" in kinds:
        pairs = [word.partition("/") for word in (kinds, *names)]
        return [(manifests.find_kind(kind), [name]) for kind, _, name in pairs]
    found = [manifests.find_kind(word) for word in kinds.split(",") if word]
    if names and len(found) > 1:
        raise InvalidSpec("Names cannot be given for several kinds at once.", hint="Write KIND/NAME for each.")
    return [(kind, list(names)) for kind in found]


async def _find(
    client: AsyncClient, kind: Kind[Any], names: list[str], everywhere: bool, labels: str
) -> list[Doc[Any]]:
    if names:
        return [await client.get(kind, name) for name in names]
    return await client.list(kind, namespace="" if everywhere else client.namespace, labels=labels)


async def _print_table(client: AsyncClient, kind: Kind[Any], names: list[str], everywhere: bool, labels: str) -> None:
    """Print what the server says a table of this kind is, so that rows are the same as kubectl's."""
    namespace = client.namespace if kind.namespaced and not everywhere else ""
    query = {"labelSelector": labels} if labels else None
    paths = [kind.path(namespace, name) for name in names] or [kind.path(namespace)]
    answers = [await client.cluster.request("GET", path, query=query, accept=_TABLE) for path in paths]
    columns = [c["name"].upper() for c in answers[0]["columnDefinitions"] if not c.get("priority")]
    shown = [i for i, c in enumerate(answers[0]["columnDefinitions"]) if not c.get("priority")]
    rows = []
    for row in (row for answer in answers for row in answer["rows"]):
        cells = ["" if row["cells"][i] is None else str(row["cells"][i]) for i in shown]
        rows.append(
            ([row["object"]["metadata"].get("namespace", "")] if everywhere and kind.namespaced else []) + cells
        )
    if not rows:
        click.echo(f"There are no {kind.plural}" + (f" in namespace {namespace}." if namespace else "."))
        return
    table((["NAMESPACE"] if everywhere and kind.namespaced else []) + columns, rows)


@click.command(epilog="Example:  headrace describe pvc starfs-pvc")
@click.argument("kind")
@click.argument("name", required=False)
def describe(kind: str, name: str | None) -> None:
    """Print one object with its conditions and events."""
    if name is None:
        kind, slash, name = kind.partition("/")
        if not slash:
            raise InvalidSpec("A name is missing.", hint="Write: headrace describe KIND NAME")

    async def program(client: AsyncClient) -> None:
        import yaml

        doc = await client.get(manifests.find_kind(kind), str(name))
        raw = {**doc.raw, "metadata": {k: v for k, v in doc.meta.items() if k != "managedFields"}}
        raw.get("metadata", {}).get("annotations", {}).pop("kubectl.kubernetes.io/last-applied-configuration", None)
        conditions = doc.status.get("conditions") or []
        body = {**raw, "status": {k: v for k, v in doc.status.items() if k != "conditions"}}
        click.echo(yaml.safe_dump(body, sort_keys=False, allow_unicode=True, width=110), nl=False)
        if conditions:
            click.echo("\nConditions")
            table(
                ("TYPE", "STATUS", "REASON", "MESSAGE"),
                [[c.get(k, "") for k in ("type", "status", "reason", "message")] for c in conditions],
                indent="  ",
            )
        await print_events(client, doc)

    run(program)


async def print_events(client: AsyncClient, doc: Doc[Any]) -> None:
    """Print what happened to an object, oldest first."""
    events = [
        e
        for e in await client.list(EVENT, namespace=doc.namespace or "default")
        if (e.raw.get("involvedObject") or {}).get("uid") == doc.uid
    ]
    if not events:
        return
    now = SystemClock().now()
    click.echo("\nEvents")
    rows = []
    for event in sorted(events, key=_event_time):
        age = (now - parse_time(_event_time(event))).total_seconds()
        times = int(event.raw.get("count") or 1)
        rows.append(
            (
                f"{human_duration(age)} ago" + (f" ×{times}" if times > 1 else ""),
                event.raw.get("type", ""),
                event.raw.get("reason", ""),
                event.raw.get("message", ""),
            )
        )
    table(("WHEN", "TYPE", "REASON", "MESSAGE"), rows, indent="  ")


def _event_time(event: Doc[Any]) -> str:
    return str(event.raw.get("lastTimestamp") or event.raw.get("eventTime") or event.meta.get("creationTimestamp"))


def _pairs(words: tuple[str, ...]) -> dict[str, str | None]:
    pairs: dict[str, str | None] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if equals and key:
            pairs[key] = value
        elif word.endswith("-") and len(word) > 1:
            pairs[word[:-1]] = None
        else:
            raise InvalidSpec(f"{word!r} is neither KEY=VALUE nor KEY-.", hint="KEY=VALUE sets, KEY- removes.")
    return pairs


@click.command(epilog="Example:  headrace label pvc starfs-pvc fluid.io/runtime-profile=starfs-profile")
@click.argument("kind")
@click.argument("name")
@click.argument("changes", nargs=-1, required=True, metavar="KEY=VALUE|KEY-...")
def label(kind: str, name: str, changes: tuple[str, ...]) -> None:
    """Set labels with KEY=VALUE, remove them with KEY-."""
    _set_metadata(kind, name, "labels", changes)
    click.echo(f"{manifests.find_kind(kind).singular}/{name} labeled")


@click.command(epilog="Example:  headrace annotate pvc starfs-pvc headrace.io/pools=own,cloud")
@click.argument("kind")
@click.argument("name")
@click.argument("changes", nargs=-1, required=True, metavar="KEY=VALUE|KEY-...")
def annotate(kind: str, name: str, changes: tuple[str, ...]) -> None:
    """Set annotations with KEY=VALUE, remove them with KEY-."""
    _set_metadata(kind, name, "annotations", changes)
    click.echo(f"{manifests.find_kind(kind).singular}/{name} annotated")


def _set_metadata(kind: str, name: str, field: str, changes: tuple[str, ...]) -> None:
    pairs = _pairs(changes)
    found = manifests.find_kind(kind)
    if field == "labels":
        run(lambda client: client.set_metadata(found, name, labels=pairs))
    else:
        run(lambda client: client.set_metadata(found, name, annotations=pairs))


@click.command(epilog="Example:  headrace delete trainjob digits")
@click.argument("kind", required=False)
@click.argument("names", nargs=-1)
@click.option("-f", "--file", "sources", multiple=True, metavar="FILE", help="Delete the objects of these files.")
@click.option("--wait/--no-wait", "waiting", default=True, help="Wait until they are gone.")
@click.option("--ignore-not-found", is_flag=True)
def delete(
    kind: str | None, names: tuple[str, ...], sources: tuple[str, ...], waiting: bool, ignore_not_found: bool
) -> None:
    """Delete objects by kind and name, or those of files."""
    if (kind is None) == (not sources):
        raise InvalidSpec("Give either a kind and names, or files with -f.", hint="See: headrace delete --help")

    async def program(client: AsyncClient) -> None:
        targets = [
            (manifests.kind_of(m), m["metadata"]["name"], m["metadata"].get("namespace", ""))
            for m in (manifests.read(sources) if sources else [])
        ]
        if kind is not None:
            targets = [(found, name, "") for found, wanted in _targets(kind, names) for name in wanted]
        if not targets:
            raise InvalidSpec("No name was given.", hint="Write: headrace delete KIND NAME...")
        for found, name, namespace in reversed(targets):
            try:
                await client.delete(found, name, namespace=namespace, wait_s=120 if waiting else None)
            except NotFound:
                if not ignore_not_found:
                    raise
                continue
            click.echo(f"{found.singular}/{name} deleted")

    run(program)


@click.command(epilog="Example:  headrace wait dataset/starfs-pvc --for condition=MountVerified --timeout 1m")
@click.argument("target", metavar="KIND/NAME")
@click.option(
    "--for", "goal", required=True, metavar="GOAL", help="condition=TYPE[=STATUS], phase=PHASE[,PHASE] or delete."
)
@click.option("--timeout", default="5m", show_default=True)
def wait(target: str, goal: str, timeout: str) -> None:
    """Wait until an object has a condition or a phase, or is gone."""
    word, slash, name = target.partition("/")
    if not slash:
        raise InvalidSpec(f"{target!r} is not KIND/NAME.", hint="Write for example dataset/starfs-pvc")
    kind = manifests.find_kind(word)
    reached = _goal(goal)

    async def program(client: AsyncClient) -> None:
        await client.wait(kind, name, reached, timeout_s=parse_duration_s(timeout))
        click.echo(f"{kind.singular}/{name} {goal.partition('=')[2] or 'deleted'}")

    run(program)


def _goal(goal: str) -> Any:
    what, _, rest = goal.partition("=")
    if what == "delete":
        return lambda doc: doc is None
    if what == "phase" and rest:
        phases = {p.lower() for p in rest.split(",")}
        return lambda doc: doc is not None and str(doc.status.get("phase", "")).lower() in phases
    if what == "condition" and rest:
        type_, _, status = rest.partition("=")
        return lambda doc: (
            doc is not None
            and any(
                c.get("type") == type_ and c.get("status", "").lower() == (status or "True").lower()
                for c in doc.status.get("conditions") or []
            )
        )
    raise InvalidSpec(f"--for {goal!r} is not a goal.", hint="Write condition=TYPE, phase=PHASE or delete.")
