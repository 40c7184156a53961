"""The `control` process: engine, façade, controllers, ledger. `python -m headrace.roles.control`"""

from __future__ import annotations

import contextlib
import hashlib
import json
import sys

import anyio
from starlette.applications import Starlette

from headrace.api.archives import DirectoryArchives
from headrace.api.code import CodeStore
from headrace.api.reads import Reads
from headrace.clock import SystemClock
from headrace.cluster.cache import Cache
from headrace.cluster.controller import Group
from headrace.engine import kubeconfig
from headrace.engine.builtin.admission import admitters as builtin_admitters
from headrace.engine.builtin.assembly import builtin_controllers
from headrace.engine.client import LocalCluster
from headrace.engine.facade.app import build_app, find_node
from headrace.engine.facade.node_proxy import NodeProxy
from headrace.engine.facade.options import FACADE_USER, UVICORN_OPTIONS
from headrace.engine.pipeline.pipeline import Pipeline
from headrace.engine.pipeline.request import LOOPBACK, SYSTEM
from headrace.engine.pipeline.seeding import builtin_registry, seed
from headrace.engine.pipeline.webhooks.caller import HttpsCaller
from headrace.engine.pki import Authority
from headrace.engine.store.store import Store
from headrace.engine.tokens import AccountTokens, StaticTokens
from headrace.errors import AlreadyExists
from headrace.keyfiles import write_private
from headrace.ledger.database import file_url
from headrace.ledger.store import Ledger
from headrace.roles import bootstrap, controllers, process, settings_file
from headrace.roles.authoriser import DRIVER_GROUP, EmbeddedAuthoriser
from headrace.roles.client_tools import client_tools
from headrace.roles.serving import Server, bind, split
from headrace.roles.settings_file import CLOUD, NODES
from headrace.roles.streams import AgentStreams
from headrace.sandbox.client import Client
from headrace.sandbox.wire import Refusal
from headrace.settings import Home

ADMIN = "admin"
TRUSTED = (SYSTEM.name, *(f"system:node:{node}" for node in NODES))
"""Users who are Headrace itself: what they write is not stamped or injected again."""

_WORLD_WITHIN_S = 10


async def main(home: Home) -> None:
    """Serve until cancelled."""
    clock = SystemClock()
    settings = settings_file.read(home)
    ready = home.ready("control")
    ready.unlink(missing_ok=True)
    listener = bind(settings.port)
    authority = Authority.open(home.pki, clock)
    static = StaticTokens(home.pki / "tokens.csv")
    accounts = AccountTokens(home.pki / "accounts.key", clock)
    ledger = await anyio.to_thread.run_sync(Ledger, file_url(home.ledger))
    async with Store(home.store) as store, HttpsCaller(store) as caller:
        pipeline = Pipeline(
            store, builtin_registry(), clock=clock, authoriser=EmbeddedAuthoriser(), tokens=accounts, caller=caller
        )
        proxy = NodeProxy(
            authority=authority.certificate,
            certificate=authority.client("facade", user=FACADE_USER, groups=("system:masters",)),
            find_node=lambda name: find_node(pipeline, name),
        )
        cluster = LocalCluster(pipeline, SYSTEM, streams=AgentStreams(proxy), manager="headrace-control")
        with anyio.move_on_after(_WORLD_WITHIN_S):
            await process.until_ready(home.world_socket(CLOUD))
        mode, notes = await anyio.to_thread.run_sync(_data_mode, home)
        await seed(pipeline)
        await _begin(LocalCluster(pipeline, LOOPBACK), settings, mode)
        code = CodeStore(DirectoryArchives(home.code), _code_key(home), settings.server, python=sys.executable)
        cache = Cache(cluster)
        parts = controllers.build(
            cluster, cache, clock=clock, tools=client_tools(settings.path), ledger=ledger, code=code, trusted=TRUSTED
        )
        pipeline.admitters.extend((*builtin_admitters(store), *parts.admitters))
        builtin = builtin_controllers(
            cluster,
            cache,
            pipeline.registry,
            clock=clock,
            volumes=home.root / "volumes",
            root_certificate=authority.pem,
        )
        reads = Reads(cache, parts.workloads, ledger, code, clock)
        facade = build_app(
            pipeline, static=static, accounts=accounts, clock=clock, node_proxy=proxy, extensions=reads.routes()
        )
        certificate = authority.server("facade")
        server = Server(
            split("/code/", Starlette(routes=reads.public_routes()), facade),
            certificate=str(certificate.certificate),
            key=str(certificate.key),
            options=UVICORN_OPTIONS,
            on_started=lambda: process.say_ready(ready),
        )
        _write_credentials(home, settings.server, authority, static)
        (home.root / "run" / "notes.json").write_text(json.dumps(notes))
        async with Group(cache, [*builtin, *parts.runnables]):
            await server.serve(sockets=[listener])
    ledger.close()


async def _begin(cluster: LocalCluster, settings: settings_file.UpSettings, mode: str) -> None:
    """Make the first objects; those that are there stay as people left them."""
    for kind, body in bootstrap.objects(settings, mode):
        with contextlib.suppress(AlreadyExists):
            await cluster.create(kind, body)


def _data_mode(home: Home) -> tuple[str, list[str]]:
    """Ask the cloud world what this machine can do; return the pool's mount mode and what to tell the user."""
    try:
        with Client(str(home.world_socket(CLOUD)), timeout_s=_WORLD_WITHIN_S) as client:
            hello = client.call("hello")
    except (OSError, Refusal) as error:
        return "broker", [f"The cloud world did not answer: {error}"]
    missing = [name for name in ("userns", "fuse") if not hello["features"][name]]
    if not missing:
        return "broker", []
    why = "; ".join(f"{name}: {hello['reasons'][name]}" for name in missing)
    return "materialise", [f"Data is copied instead of mounted (mode materialise): {why}"]


def _code_key(home: Home) -> bytes:
    """Derive the key of code tokens from the accounts' signing key, so that one secret needs keeping."""
    return hashlib.sha256(b"code" + (home.pki / "accounts.key").read_bytes()).digest()


def _write_credentials(home: Home, server: str, authority: Authority, static: StaticTokens) -> None:
    admin = static.ensure(ADMIN, ("system:masters",))
    kubeconfig.write(home.kubeconfig, server=server, authority=authority.pem, token=admin, user=ADMIN)
    others = [(node, f"system:node:{node}", "system:nodes") for node in NODES]
    for name, user, group in [*others, ("driver", "headrace:driver", DRIVER_GROUP)]:
        token = static.ensure(user, (group,))
        write_private(home.token(name), token.encode())


if __name__ == "__main__":
    process.run("control", main)
