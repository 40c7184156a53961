"""`headrace control`: the controllers on this machine, for a cluster that runs nothing of Headrace."""

from __future__ import annotations

import os
from pathlib import Path

import click

from headrace.cli.session import connection_options, current_options, emit, output_option
from headrace.errors import InvalidSpec
from headrace.settings import Home, default_home
from headrace.spec.names import SYSTEM_NAMESPACE


@click.command(epilog="Example:  headrace control --kubeconfig admin.conf")
@click.option("--namespace", default=SYSTEM_NAMESPACE, show_default=True, metavar="NAME", help="Where Headrace lives.")
@click.option(
    "--ledger",
    envvar="HEADRACE_LEDGER_URL",
    default="",
    metavar="URL",
    help="Where usage is kept: postgresql://… or sqlite:///FILE; a file in the state directory by default.",
)
@click.option(
    "--address", default="", metavar="IP", help="Where the API server finds this machine; by default found out."
)
@click.option(
    "--home",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIRECTORY",
    help="State directory; $HEADRACE_HOME, else a usual place.",
)
@connection_options
@output_option
def control(namespace: str, ledger: str, address: str, home: Path | None, output: str) -> None:
    """Run Headrace's controllers on this machine for a cluster, until Ctrl-C.

    For a cluster in which Headrace was installed with --no-workloads, and whose pools' nodes are on this machine
    (headrace node): sidecars and probes run in this machine's root. The API server must reach this machine. json and yaml
    print where it does once the controllers work.
    """
    from headrace.roles import outside, process
    from headrace.telemetry import configure

    chosen = current_options()
    kubeconfig = chosen.kubeconfig or os.environ.get("KUBECONFIG", "").partition(os.pathsep)[0]
    if not kubeconfig:
        raise InvalidSpec("No cluster is named.", hint="Such as: headrace control --kubeconfig FILE")
    path = Path(kubeconfig).expanduser()
    if not path.is_file():
        raise InvalidSpec(f"There is no kubeconfig {path}.", hint="Check the path given.")
    wishes = outside.Wishes(
        kubeconfig=path,
        context=chosen.context,
        namespace=namespace,
        home=Home(home.expanduser().absolute() if home is not None else default_home()),
        ledger=ledger,
        address=address,
    )
    configure(os.environ.get("HEADRACE_LOG_LEVEL", "WARNING"), process="control")

    def ready(found: outside.Reached) -> None:
        if not emit(found._asdict(), output):
            click.echo("The controllers run on this machine. Ctrl-C ends them.")
            click.echo(f"  The API server reaches them at {found.address}:{found.port}; the ledger is {found.ledger}")

    process.run_until_asked(lambda: outside.main(wishes, lambda text: click.echo(f"  … {text}", err=True), ready))
