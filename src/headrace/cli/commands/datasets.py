"""`headrace datasets`: what data there is, and connecting a claim's data to every pool."""

from __future__ import annotations

from typing import Any

import click

from headrace.cli.session import emit, output_option, run, table
from headrace.sdk.client import AsyncClient
from headrace.spec.kind import Doc
from headrace.spec.kinds import DATASET
from headrace.units import parse_duration_s


@click.group(epilog="Example:  headrace datasets connect starfs-pvc --profile starfs-profile")
def datasets() -> None:
    """List datasets; connect a claim's data to every pool."""


@datasets.command(name="list", epilog="Example:  headrace datasets list -o json")
@click.option("-A", "--all-namespaces", is_flag=True)
@output_option
def list_(all_namespaces: bool, output: str) -> None:
    """List datasets with where their mount was really tried."""

    async def program(client: AsyncClient) -> None:
        found = await client.list(DATASET, namespace="" if all_namespaces else client.namespace)
        if emit([doc.raw for doc in found], output):
            return
        if not found:
            click.echo("There are no datasets. Connect one: headrace datasets connect CLAIM --profile PROFILE")
            return
        table(("NAMESPACE", "NAME", "PHASE", "VERIFIED", "MESSAGE"), [_row(doc) for doc in found])

    run(program)


def _row(doc: Doc[Any]) -> tuple[str, ...]:
    verified = next((c for c in doc.status.get("conditions") or [] if c.get("type") == "MountVerified"), {})
    return (
        doc.namespace,
        doc.name,
        str(doc.status.get("phase") or "NotBound"),
        verified.get("status", "–"),
        verified.get("message", ""),
    )


@datasets.command(epilog="Example:  headrace datasets connect starfs-pvc --profile starfs-profile")
@click.argument("claim")
@click.option("--profile", required=True, help="The ThinRuntimeProfile that knows this storage.")
def connect(claim: str, profile: str) -> None:
    """Label a claim, so that its data can be reached from pools without its CSI driver too."""

    async def program(client: AsyncClient) -> None:
        await client.connect_dataset(claim, profile)
        click.echo(f"persistentvolumeclaim/{claim} connected with profile {profile}")
        click.echo(f"  → headrace describe pvc {claim}")

    run(program)


@datasets.command(epilog="Example:  headrace datasets wait starfs-pvc --timeout 1m")
@click.argument("claims", nargs=-1, required=True)
@click.option("--timeout", default="5m", show_default=True)
def wait(claims: tuple[str, ...], timeout: str) -> None:
    """Wait until the data of claims has really been listed in every pool it may go to."""

    async def program(client: AsyncClient) -> None:
        deadline_s = parse_duration_s(timeout)
        for claim in claims:
            doc = await client.wait_for_dataset(claim, timeout_s=deadline_s)
            click.echo(f"persistentvolumeclaim/{claim} verified as dataset/{doc.name}: {_row(doc)[-1]}")

    run(program)
