"""How a process of ours on a cluster is told what to do: options of its command line, documented in docs/settings.md."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from headrace.cluster.remote import RemoteCluster
from headrace.pods.others import read_pod
from headrace.spec.kinds import POD
from headrace.spec.names import SYSTEM_NAMESPACE

F = TypeVar("F", bound=Callable[..., Any])

LEDGER_VARIABLE = "HEADRACE_LEDGER_URL"


def connection_options(command: F) -> F:
    """Add --kubeconfig, --context, --namespace and --monitoring: what every process on a cluster needs."""
    for option in (
        click.option(
            "--monitoring", default="0.0.0.0:8080", metavar="HOST:PORT", help="Health and metrics, plain HTTP."
        ),
        click.option(
            "--namespace",
            default=SYSTEM_NAMESPACE,
            metavar="NAME",
            help="Where Headrace itself lives: its lease and its certificates.",
        ),
        click.option("--context", metavar="NAME", help="A context of the kubeconfig."),
        click.option(
            "--kubeconfig",
            type=click.Path(exists=True, dir_okay=False, path_type=Path),
            help="The cluster; by default the service account of the pod this runs in.",
        ),
    ):
        command = option(command)
    return command


def connect(kubeconfig: Path | None, context: str | None) -> RemoteCluster:
    """Return a client of the cluster that was named; raises InvalidSpec for a kubeconfig that cannot be used."""
    readings = {POD: read_pod}
    if kubeconfig is None:
        return RemoteCluster.in_cluster(readings=readings)
    return RemoteCluster.from_kubeconfig(kubeconfig, context=context, readings=readings)


def address(text: str) -> tuple[str, int]:
    """Return host and port of `HOST:PORT`; raises click.BadParameter."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535:
        raise click.BadParameter(f"{text!r} is no HOST:PORT.")
    return host.strip("[]"), int(port)
