"""`headrace node`: lets this machine join a cluster as a node, and runs its processes.

    supervisor ── world ── agent        (docs/virtual-node.md)

The operator's kubeconfig is read once, when the node joins. Afterwards its home has all that it needs.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

import anyio
import msgspec

from headrace.certificates import make_key
from headrace.clock import SystemClock
from headrace.cluster.protocol import Cluster
from headrace.cluster.remote import RemoteCluster
from headrace.cluster.remote.connection import read_cluster
from headrace.errors import Conflict, EngineFailed, InvalidSpec, Unsupported
from headrace.fuse import probe
from headrace.ids import is_dns_subdomain
from headrace.install import joining, leaving
from headrace.install.apply import Outcome
from headrace.install.node_objects import Membership, Taint
from headrace.keyfiles import write_private
from headrace.node import certificates
from headrace.node.images.registries import Mirror
from headrace.node.removal import remove
from headrace.roles import joined_file, said, supervision
from headrace.roles.joined_file import CERTIFICATE_S, CLIENT_CERTIFICATE, PROCESS, WORLD, JoinedNode
from headrace.sandbox import unprivileged
from headrace.sandbox.client import Client
from headrace.sandbox.wire import Refusal
from headrace.settings import Home, default_home
from headrace.spec.kind import Json
from headrace.units import parse_quantity

_LONGEST_NAME = 63
NO_MIRRORS = "none"
PROCESSES = (supervision.world_process(WORLD), PROCESS)

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """What the command line said; None and empty texts leave it to us, or to what was chosen when the node joined."""

    pool: str = ""
    name: str = ""
    address: str = ""
    port: int = 0
    cpu: str = ""
    memory: str = ""
    persistent_volumes: bool | None = None
    taints: tuple[Taint, ...] = ()
    certificate_s: int = 0
    mirrors: tuple[str, ...] = ()


def usual_home(name: str) -> Home:
    """Return where a node of this name has its home, when nobody says another place."""
    return Home(Home(default_home()).nodes / name)


def only_home() -> Home | None:
    """Return the home of the only node that this machine is, in the usual place; None where it is none or several."""
    found = [Home(path.parent) for path in Home(default_home()).nodes.glob(f"*/{joined_file.SETTINGS}")]
    return found[0] if len(found) == 1 else None


def usual_name(pool: str) -> str:
    """Return how this machine's node of a pool is called, when nobody says another name."""
    host = socket.gethostname().lower().partition(".")[0]
    return f"{host}-{pool}" if host else pool


def check(wishes: Wishes) -> None:
    """Raise InvalidSpec for wishes that cannot be fulfilled."""
    for what, name in (("a node", wishes.name), ("a pool", wishes.pool)):
        if name and not is_dns_subdomain(name):
            raise InvalidSpec(f"{name!r} is no name for {what}.", hint="Use a-z, 0-9, - and dots.")
    if len(wishes.name or usual_name(wishes.pool)) > _LONGEST_NAME:
        raise InvalidSpec(
            f"A node's name has {_LONGEST_NAME} characters at most: it is the value of a label.",
            hint="Choose a shorter one: --name NAME",
        )
    for what, text in (("CPU", wishes.cpu), ("memory", wishes.memory)):
        try:
            good = not text or parse_quantity(text) > 0
        except ValueError as error:
            raise InvalidSpec(f"{what} {error}.", hint="Write for example --cpu 4 --memory 8Gi") from error
        if not good:
            raise InvalidSpec(f"{what} must be more than nothing, not {text}.", hint="Write for example 4 or 8Gi")
    for mirror in wishes.mirrors:
        if mirror != NO_MIRRORS:
            Mirror.parse(mirror)


# -- joining -----------------------------------------------------------------------------------------------------------


def join(home: Home, wishes: Wishes, kubeconfig: Path, context: str | None, say: Say) -> JoinedNode:
    """Let this machine into the cluster of `kubeconfig`, and keep in `home` what its node needs. Idempotent.

    Raises:
        Denied, NotFound, Conflict, Unavailable: the cluster does not let it in; the sentence says why.
    """
    _check_machine()
    target = read_cluster(kubeconfig, context)
    known = joined_file.find(home)
    wishes = _with_known(wishes, known)
    if not wishes.pool:
        raise InvalidSpec("A node joins a pool, and none is named.", hint="Such as: --pool cloud")
    name = wishes.name or usual_name(wishes.pool)

    async def program() -> JoinedNode:
        async with RemoteCluster.from_kubeconfig(kubeconfig, context=context) as cluster:
            await joining.check_rights(cluster)
            address = wishes.address or _address_towards(target.server)
            member = await joining.membership(cluster, name, wishes.pool, address, wishes.taints)
            _check_volumes(member, wishes)
            if known is None:
                await joining.check_name(cluster, member, SystemClock())
            node = JoinedNode(
                name=name,
                pool=wishes.pool,
                server=target.server,
                address=address,
                port=wishes.port,
                is_serverless=member.is_serverless,
                cpu=wishes.cpu,
                memory=wishes.memory,
                persistent_volumes=bool(wishes.persistent_volumes),
                hidden=known.hidden if known is not None else _hidden(kubeconfig),
                path=supervision.environment(home)["PATH"],
                certificate_s=wishes.certificate_s or CERTIFICATE_S,
                mirrors=_without_none(wishes.mirrors),
            )
            await _obtain(cluster, member, node, home, say)
            _keep(home, node, joined_file.kubeconfig(node, target.authority, is_insecure=target.is_insecure))
            await joining.register(cluster, member)
            return node

    return anyio.run(program)


def adjust(home: Home, known: JoinedNode, wishes: Wishes) -> JoinedNode:
    """Return what the node is by now, when it is started again with other wishes and no kubeconfig. Idempotent.

    Raises:
        InvalidSpec: what the cluster agreed to when it joined cannot change without an operator.
        Conflict: it runs, with what it was told before.
    """
    wanted = _with_known(wishes, known)
    agreed = {
        "--address": (wanted.address, known.address),
        "--persistent-volumes": (wanted.persistent_volumes, known.persistent_volumes),
        "--taint": (wanted.taints, ()),
    }
    for option, (new, old) in agreed.items():
        if new != old:
            raise InvalidSpec(
                f"{option} was agreed when the node joined.", hint="Let it join again: add --kubeconfig FILE"
            )
    changed = msgspec.structs.replace(
        known,
        port=wanted.port,
        cpu=wanted.cpu,
        memory=wanted.memory,
        certificate_s=wanted.certificate_s,
        mirrors=_without_none(wanted.mirrors),
    )
    if changed != known:
        if supervision.left(home, [PROCESS]):
            raise Conflict(
                "The node runs already, with other settings.", hint="End it first, then start it with these."
            )
        joined_file.write(home, changed)
        _give(home.root / joined_file.SETTINGS)
    return changed


def _without_none(mirrors: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(mirror for mirror in mirrors if mirror != NO_MIRRORS)


def _with_known(wishes: Wishes, known: JoinedNode | None) -> Wishes:
    """Fill in what the node was told when it joined before."""
    if known is None:
        return wishes
    for what, wanted, kept in (("name", wishes.name, known.name), ("pool", wishes.pool, known.pool)):
        if wanted and wanted != kept:
            raise Conflict(
                f"The node of this home has the {what} {kept}, not {wanted}.",
                hint="Take it out first (headrace node --leave), or name another home: --home DIRECTORY",
            )
    return replace(
        wishes,
        name=known.name,
        pool=known.pool,
        address=wishes.address or known.address,
        port=wishes.port or known.port,
        cpu=wishes.cpu or known.cpu,
        memory=wishes.memory or known.memory,
        persistent_volumes=known.persistent_volumes if wishes.persistent_volumes is None else wishes.persistent_volumes,
        certificate_s=wishes.certificate_s or known.certificate_s,
        mirrors=wishes.mirrors or known.mirrors,
    )


def _check_volumes(member: Membership, wishes: Wishes) -> None:
    if wishes.persistent_volumes and member.is_serverless:
        raise InvalidSpec(
            f"Pool {member.pool} is serverless, and no serverless provider runs anybody's volume driver.",
            hint="Leave out --persistent-volumes, or let the node join a pool of kind own.",
        )


async def _obtain(cluster: Cluster, member: Membership, node: JoinedNode, home: Home, say: Say) -> None:
    await joining.grant(cluster, member.name)
    if not certificates.ended(home.identity / CLIENT_CERTIFICATE, SystemClock().now()):
        return
    issued = await joining.client_certificate(cluster, member, make_key(), node.certificate_s, say)
    _make_private(home)
    file = home.identity / CLIENT_CERTIFICATE
    certificates.write(file, issued)
    _give(home.identity, file)


def _keep(home: Home, node: JoinedNode, kubeconfig: Json) -> None:
    joined_file.write(home, node)
    write_private(home.kubeconfig, msgspec.yaml.encode(kubeconfig))
    _give(home.root / joined_file.SETTINGS, home.kubeconfig)


def _make_private(home: Home) -> None:
    home.root.mkdir(mode=0o700, parents=True, exist_ok=True)
    home.identity.mkdir(mode=0o700, exist_ok=True)


def _give(*paths: Path) -> None:
    """Started by root, the node runs as nobody, and what it keeps is nobody's."""
    if os.geteuid() == 0:
        for path in paths:
            os.chown(path, unprivileged.NOBODY, unprivileged.NOBODY)


def _hidden(kubeconfig: Path) -> tuple[str, ...]:
    """Return what pods must not see of this machine: credentials of clusters, and other nodes of ours.

    Kept, because a world that is started with other words than before is another world, without the pods of the last.
    """
    return tuple(str(path) for path in (default_home(), Path("~/.kube").expanduser(), kubeconfig.resolve()))


def _check_machine() -> None:
    """Without user namespaces pods are plain processes of our own user, who may read its files."""
    found = probe.probe()
    if not found.user_namespaces:
        why = found.reasons.get("user_namespaces", "it has no user namespaces")
        raise Unsupported(
            f"This machine cannot keep the node's credential from pods. {why}",
            hint="See what mends it: headrace doctor",
        )


def _address_towards(server: str) -> str:
    """Return this machine's address on the way to a server. Nothing is sent."""
    url = urlsplit(server)
    try:
        found = socket.getaddrinfo(url.hostname, url.port or 443, type=socket.SOCK_DGRAM)
        for family, kind, protocol, _, where in found:
            with socket.socket(family, kind, protocol) as probe:
                probe.connect(where)
                return str(probe.getsockname()[0])
    except OSError as error:
        raise InvalidSpec(
            f"There is no way from here to {server}: {error.strerror}.",
            hint="Name this machine's address: --address IP",
        ) from error
    raise AssertionError("getaddrinfo finds something, or raises")


# -- running -----------------------------------------------------------------------------------------------------------


def start(home: Home) -> None:
    """Start the node's processes, or find them running. Idempotent."""
    if not supervision.left(home, [PROCESS]):
        home.ready(PROCESS).unlink(missing_ok=True)
        _said(home).unlink(missing_ok=True)  # what the last one waited for
    node = joined_file.read(home)
    world = supervision.world_entry(home, WORLD, [home.root, *map(Path, node.hidden)])
    agent = supervision.entry(home, PROCESS, ["headrace.roles.joined"], ready=None, beside=[world["name"]])
    supervision.supervise(home, supervision.table(home, [world, agent]))


def is_ready(home: Home) -> bool:
    """Whether the cluster knows that pods can run here."""
    return home.ready(PROCESS).exists()


def running_pods(home: Home) -> int:
    """Return how many pods have a container that runs; 0 where no world answers."""
    try:
        with Client(str(home.world_socket(WORLD)), timeout_s=5) as client:
            pods = client.call("state")["pods"]
    except (OSError, Refusal):
        return 0
    return sum(any(each.get("state") == "running" for each in pod.get("containers") or ()) for pod in pods)


def stop(home: Home, *, keeps_pods: bool) -> None:
    """End the node's processes; with `keeps_pods` all but the world, whose pods go on. Idempotent."""
    home.ready(PROCESS).unlink(missing_ok=True)
    if not keeps_pods:
        supervision.end_all(home)
        return
    try:
        with Client(str(home.supervisor_socket), timeout_s=30) as client:
            client.call("stop", keep=[supervision.world_process(WORLD)])
    except (OSError, Refusal) as error:
        raise EngineFailed(f"The agent could not be stopped: {error}.", hint="Try again.") from error


def sentences(home: Home) -> dict[str, str]:
    """Return what the node waits for, by topic."""
    return said.read(_said(home))


def _said(home: Home) -> Path:
    return home.root / "run" / joined_file.SAID


# -- leaving -----------------------------------------------------------------------------------------------------------


def leave(
    home: Home,
    name: str,
    kubeconfig: Path,
    context: str | None,
    *,
    say: Say,
    tell: Callable[[Outcome], None],
    timeout_s: float | None,
) -> None:
    """Take the node out of the cluster of `kubeconfig`, with everything that was made for it there and here. Idempotent.

    Args:
        tell: given what is deleted in the cluster.
        timeout_s: how long its pods may take to end; None does not wait for them.

    Raises:
        Unavailable: pods do not end in time; the node goes on, and takes no more of them.
    """

    async def drained() -> None:
        async with RemoteCluster.from_kubeconfig(kubeconfig, context=context) as cluster:
            await leaving.drain(cluster, name, say, timeout_s=timeout_s or 0)

    async def removed() -> None:
        async with RemoteCluster.from_kubeconfig(kubeconfig, context=context) as cluster:
            async for outcome in leaving.remove_node(cluster, name):
                tell(outcome)

    is_here = joined_file.find(home) is not None
    if timeout_s is not None:
        if is_here:
            start(home)  # who ends pods in order and says so is the agent
        anyio.run(drained)
    stop(home, keeps_pods=False)
    anyio.run(removed)
    if is_here:
        remove(home.root)
