"""`headrace node`: this machine as a node of a Kubernetes cluster."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from headrace.cli.session import connection_options, current_options, emit, output_option, warn
from headrace.cli.words import DURATION
from headrace.errors import InvalidSpec
from headrace.settings import Home

if TYPE_CHECKING:
    from headrace.roles.join import Wishes
    from headrace.roles.joined_file import JoinedNode

_LOOK_EVERY_S = 0.2


@click.command(epilog="Example:  headrace node --kubeconfig admin.conf --pool cloud")
@click.option("--pool", default="", metavar="NAME", help="The pool that the node joins; it must be there.")
@click.option("--name", default="", metavar="NAME", help="The node's name; this machine's and the pool's by default.")
@click.option(
    "--address", default="", metavar="IP", help="Where the API server finds this machine; by default found out."
)
@click.option(
    "--port", type=click.IntRange(0, 65535), default=0, metavar="PORT", help="Of logs and exec; 10250 if it is free."
)
@click.option("--cpu", default="", metavar="CORES", help="CPUs the node offers; this machine's by default.")
@click.option("--memory", default="", metavar="SIZE", help="Memory the node offers; this machine's by default.")
@click.option(
    "--persistent-volumes/--no-persistent-volumes",
    default=None,
    help="Whether the node's driver fuse.headrace.io serves PersistentVolumes, as an own node's does.",
)
@click.option(
    "--taint",
    "taints",
    multiple=True,
    metavar="KEY=VALUE:EFFECT",
    help="Keeps away pods that do not tolerate it, besides the taint of a serverless pool; repeatable, and only "
    "together with a kubeconfig.",
)
@click.option(
    "--certificate-life",
    type=DURATION,
    default=None,
    metavar="TIME",
    help="How long its certificates are good for; 7d by default. They are renewed long before.",
)
@click.option(
    "--mirror",
    "mirrors",
    multiple=True,
    metavar="PREFIX=URL",
    help="Where images of a registry are looked for first, such as docker.io=https://mirror.example; repeatable. Kept until others are given; `none` has none.",
)
@click.option(
    "--home",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIRECTORY",
    help="Where the node keeps its things; nodes/NAME in Headrace's state directory.",
)
@click.option("--leave", is_flag=True, help="Take the node out of the cluster: its pods end, then it is gone.")
@click.option("--force", is_flag=True, help="With --leave: do not wait for pods.")
@click.option(
    "--timeout",
    type=DURATION,
    default="5m",
    show_default=True,
    metavar="TIME",
    help="With --leave: how long pods may take.",
)
@connection_options
@output_option
def node(
    home: Path | None,
    certificate_life: float | None,
    taints: tuple[str, ...],
    leave: bool,
    force: bool,
    timeout: float,
    output: str,
    **options: Any,
) -> None:
    """Run this machine as a node of a Kubernetes cluster, until Ctrl-C.

    Pods run in the sandbox of this machine, without root. The kubeconfig is used to join only; afterwards the node has a
    credential of its own, and needs none to start again. Ctrl-C leaves pods running, for the next start. json and yaml
    print what the node is once pods can run on it.
    """
    from headrace.install.node_objects import parse_taint
    from headrace.roles import join
    from headrace.roles.join import Wishes

    wanted = tuple(map(parse_taint, taints))
    wishes = Wishes(certificate_s=int(certificate_life or 0), taints=wanted, **options)
    join.check(wishes)
    place = _place(home, wishes)
    if leave:
        _leave(place, wishes, None if force else timeout)
        return
    if force:
        raise InvalidSpec("--force goes with --leave.", hint="headrace node --leave --force")
    joined = _join(place, wishes)
    join.start(place)
    if output == "table":
        click.echo(f"Node {joined.name} · pool {joined.pool} · {joined.server}")
    _follow(place, lambda: _say_ready(place, joined, output))


def _place(home: Path | None, wishes: Wishes) -> Home:
    from headrace.roles.join import only_home, usual_home, usual_name

    if home is not None:
        return Home(home.expanduser().absolute())
    if wishes.name or wishes.pool:
        return usual_home(wishes.name or usual_name(wishes.pool))
    only = only_home()
    if only is not None:
        return only
    raise InvalidSpec("Which node?", hint="Name its pool (--pool cloud), its name (--name) or its home (--home).")


def _join(place: Home, wishes: Wishes) -> JoinedNode:
    from headrace.roles import join, joined_file

    known = joined_file.find(place)
    if known is not None and not current_options().kubeconfig:
        return join.adjust(place, known, wishes)
    return join.join(place, wishes, _kubeconfig("To join"), current_options().context, _tell)


def _leave(place: Home, wishes: Wishes, timeout_s: float | None) -> None:
    from headrace.roles import join, joined_file

    known = joined_file.find(place)
    name = known.name if known is not None else wishes.name or join.usual_name(wishes.pool)
    join.leave(
        place,
        name,
        _kubeconfig("To leave"),
        current_options().context,
        say=_tell_once(),
        tell=lambda gone: click.echo(f"{gone.kind.singular}/{gone.ref} {gone.what}"),
        timeout_s=timeout_s,
    )
    click.echo(f"Node {name} has left the cluster.")


def _kubeconfig(what: str) -> Path:
    chosen = current_options().kubeconfig or os.environ.get("KUBECONFIG", "")
    if not chosen:
        raise InvalidSpec(
            f"{what}, a node needs the credential of one of the cluster's administrators.",
            hint="Name it: --kubeconfig FILE",
        )
    return Path(chosen).expanduser()


def _tell_once() -> Callable[[str], None]:
    said: list[str] = []

    def tell(sentence: str) -> None:
        if sentence and sentence not in said[-1:]:
            said.append(sentence)
            _tell(sentence)

    return tell


def _tell(sentence: str) -> None:
    if sentence:
        click.echo(f"  … {sentence}", err=True)


def _say_ready(place: Home, joined: JoinedNode, output: str) -> None:
    from headrace.roles import joined_port

    told = {
        "name": joined.name,
        "pool": joined.pool,
        "server": joined.server,
        "address": joined.address,
        "port": joined_port.bound(place),
        "home": str(place.root),
    }
    if not emit(told, output):
        click.echo("  Ready: pods can run here. Ctrl-C ends it.")


def _follow(place: Home, say_ready: Callable[[], None]) -> None:
    """Tell what the node waits for, until somebody ends it."""
    from headrace.roles import join

    def interrupt(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)
    said: dict[str, str] = {}
    was_ready = False
    try:
        while True:
            now = join.sentences(place)
            for sentence in dict.fromkeys(now.values()):  # several may wait for the same
                if sentence not in said.values():
                    _tell(sentence)
            said = now
            if not was_ready and join.is_ready(place):
                was_ready = True
                say_ready()
            time.sleep(_LOOK_EVERY_S)
    except KeyboardInterrupt:
        pods = join.running_pods(place)
        join.stop(place, keeps_pods=pods > 0)
        if pods:
            warn(
                f"The node has stopped. {'One pod goes' if pods == 1 else f'{pods} pods go'} on without it; the cluster "
                "gives up what runs here in about six minutes. Take over again: "
                f"headrace node --home {place.root} · or end all of it: headrace node --home {place.root} --leave"
            )
        else:
            warn(f"The node has stopped; no pod ran. Start it again: headrace node --home {place.root}")
        raise
