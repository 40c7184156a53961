"""`apply get delete`: objects, for people who do not have kubectl at hand."""

from __future__ import annotations

from typing import Any

import click

from headrace.cli import completing, targets
from headrace.cli.session import (
    cluster_options,
    emit,
    everywhere_option,
    object_list,
    output_option,
    run,
    table,
)
from headrace.cli.words import DURATION
from headrace.clock import SystemClock, parse_time
from headrace.errors import InvalidSpec, NotFound
from headrace.sdk import manifests
from headrace.sdk.client import AsyncClient
from headrace.spec.kind import Doc, Json, Kind
from headrace.units import human_duration

_TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"


@click.command(epilog="Example:  headrace apply -f profile.yaml -f claim.yaml")
@click.option(
    "-f",
    "--file",
    "sources",
    multiple=True,
    required=True,
    metavar="FILE",
    help="File, directory or - for standard input; repeatable.",
)
@click.option("--dry-run", is_flag=True, help="Ask the server, change nothing.")
@cluster_options
@output_option
def apply(sources: tuple[str, ...], dry_run: bool, output: str) -> None:
    """Create objects, or change them to what files say.

    Repeating it changes nothing. What others have set in the objects stays. A TrainJob's code directory is packed.
    """

    async def program(client: AsyncClient) -> None:
        results = []
        for manifest in manifests.load(sources):
            outcome, doc = await client.apply(manifest.body, base=manifest.base, dry_run=dry_run)
            results.append(doc.raw)
            if output == "table":
                click.echo(f"{doc.kind.singular}/{doc.name} {outcome}{' (dry run)' if dry_run else ''}")
        emit(object_list(results), output)

    run(program)


@click.command(epilog="Example:  headrace get datasets,thinruntimes -o yaml")
@click.argument("kinds", metavar="KIND[,KIND]|KIND/NAME", shell_complete=completing.kinds)
@click.argument("names", nargs=-1, metavar="[NAME]...", shell_complete=completing.names)
@everywhere_option
@click.option("-l", "--selector", default="", metavar="LABELS", help="Such as headrace.io/job=digits.")
@cluster_options
@output_option
def get(kinds: str, names: tuple[str, ...], everywhere: bool, selector: str, output: str) -> None:
    """Print objects."""
    wanted = targets.parse((kinds, *names))
    if any(found for _, found in wanted) and (everywhere or selector):
        raise InvalidSpec("A name goes with neither -A nor -l.", hint="Leave the name out, or the option.")

    async def program(client: AsyncClient) -> None:
        if output == "table":
            for number, (kind, only) in enumerate(wanted):
                if number:
                    click.echo()
                await _print_table(client, kind, only, everywhere, selector)
            return
        found = [doc for kind, only in wanted for doc in await _find(client, kind, only, everywhere, selector)]
        is_one = sum(len(only) for _, only in wanted) == 1
        emit(found[0].raw if is_one else object_list([doc.raw for doc in found]), output)

    run(program)


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
    with_namespace = everywhere and kind.namespaced
    columns: list[str] = []
    rows: list[list[str]] = []
    for answer in answers:
        columns, found = _cells(answer)
        rows += [[namespace, *cells] if with_namespace else cells for namespace, cells in found]
    if not rows:
        click.echo(f"There are no {kind.plural}" + (f" in namespace {namespace}." if namespace else "."))
        return
    table(["NAMESPACE", *columns] if with_namespace else columns, rows)


def _cells(answer: Json) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """Return columns, and namespace and cells of each row; of name and age where the server makes no tables."""
    if answer.get("kind") != "Table":
        items = answer.get("items", [answer])
        return ["NAME", "AGE"], [(i["metadata"].get("namespace", ""), [i["metadata"]["name"], _age(i)]) for i in items]
    shown = [i for i, column in enumerate(answer["columnDefinitions"]) if not column.get("priority")]
    columns = [answer["columnDefinitions"][i]["name"].upper() for i in shown]
    rows = [
        (
            (row.get("object") or {}).get("metadata", {}).get("namespace", ""),
            ["" if row["cells"][i] is None else str(row["cells"][i]) for i in shown],
        )
        for row in answer.get("rows") or []
    ]
    return columns, rows


def _age(item: Json) -> str:
    created = item["metadata"].get("creationTimestamp")
    return human_duration((SystemClock().now() - parse_time(created)).total_seconds()) if created else "–"


@click.command(epilog="Example:  headrace delete trainjob digits")
@click.argument("words", nargs=-1, metavar="KIND NAME...|KIND/NAME...", shell_complete=completing.kinds)
@click.option(
    "-f", "--file", "sources", multiple=True, metavar="FILE", help="Delete the objects of this file; repeatable."
)
@click.option("--wait/--no-wait", "waiting", default=True, help="Wait until they are gone.")
@click.option(
    "--timeout", type=DURATION, default="2m", show_default=True, metavar="TIME", help="How long to wait for each."
)
@click.option("--ignore-not-found", is_flag=True, help="Take what is not there for deleted.")
@cluster_options
@output_option
def delete(
    words: tuple[str, ...],
    sources: tuple[str, ...],
    waiting: bool,
    timeout: float,
    ignore_not_found: bool,
    output: str,
) -> None:
    """Delete objects.

    Those named, or those of files.
    """
    if bool(words) == bool(sources):
        raise InvalidSpec("Give either a kind and names, or files with -f.", hint="See: headrace delete --help")

    async def program(client: AsyncClient) -> None:
        gone = []
        for kind, name, namespace in _doomed(words, sources):
            try:
                await client.delete(kind, name, namespace=namespace, wait_s=timeout if waiting else None)
            except NotFound:
                if not ignore_not_found:
                    raise
                continue
            gone.append({"kind": kind.name, "name": name, **({"namespace": namespace} if namespace else {})})
            if output == "table":
                click.echo(f"{kind.singular}/{name} {'deleted' if waiting else 'is being deleted'}")
        emit(gone, output)

    run(program)


def _doomed(words: tuple[str, ...], sources: tuple[str, ...]) -> list[tuple[Kind[Any], str, str]]:
    """Return what to delete: as typed, or the objects of files in the opposite order of their creation."""
    if words:
        return [(kind, name, "") for kind, name in targets.named(words)]
    found = []
    for manifest in reversed(manifests.load(sources)):
        meta = manifest.body.get("metadata") or {}
        if not meta.get("name"):
            raise InvalidSpec(f"{manifest.source}: a {manifest.body['kind']} has no name.", hint="Delete it by name.")
        found.append((manifests.kind_of(manifest.body), str(meta["name"]), str(meta.get("namespace") or "")))
    return found
