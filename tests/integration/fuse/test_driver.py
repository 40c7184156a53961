"""The volume driver in a real world with real JuiceFS: shared mounts, healing, inline volumes, and what it leaves."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio import to_thread
from tests.integration.fuse.conftest import IS_ROOT
from tests.integration.fuse.pods import ObjectStore, format_juicefs, metadata_server, object_store

from headrace.csi.broker import Broker
from headrace.csi.driver import FuseDriver, python_install
from headrace.csi.permit import InlineRequest, Terms
from headrace.csi.shared import Patience
from headrace.csi.world_volumes import VolumeRequest, WorldVolumes
from headrace.errors import InvalidSpec, Unavailable
from headrace.fuse.order import MountOrder
from headrace.node.world import WorldClient
from headrace.sandbox.client import Client
from headrace.sandbox.testing import RunningWorld, missing_features, running_world, start_world

pytestmark = [pytest.mark.fuse, pytest.mark.anyio]

_TARGET = "/runtime-mnt/thin/volumes/v/thin-fuse/ds"
_POD = {
    "name": "p",
    "namespace": "ns",
    "uid": "uid-1",
    "service_account": "default",
    "node": "own",
    "ephemeral": "false",
}
_INLINE = {**_POD, "ephemeral": "true"}

# Opens a file again and again and writes each outcome that differs from the one before.
_READER = """
import time
last, end = None, time.monotonic() + 60
while time.monotonic() < end:
    try:
        with open("/data/file") as file:
            seen = file.read()
    except OSError as error:
        seen = f"errno {error.errno}"
    if seen != last:
        print(seen, flush=True)
        last = seen
    time.sleep(0.02)
"""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[str, ObjectStore]]:
    """A metadata server and an object store."""
    with tempfile.TemporaryDirectory(prefix="hr-fuse-", dir="/var/tmp") as place:
        with metadata_server(Path(place, "etcd")) as address, object_store(Path(place, "objects")) as store:
            yield address, store


@pytest.fixture
def metaurl(servers: tuple[str, ObjectStore]) -> str:
    """A new JuiceFS volume."""
    address, store = servers
    name = f"vol-{uuid.uuid4().hex[:8]}"
    keys = ["--access-key", store.access_key, "--secret-key", store.secret_key]
    format_juicefs(f"{address}-{name}", "--storage", "s3", "--bucket", f"{store.endpoint}/bucket", *keys, name=name)
    return f"{address}-{name}"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[RunningWorld]:
    if IS_ROOT:
        pytest.skip("root never runs the driver: test_all_as_the_user_that_root_becomes does this")
    missing = missing_features()
    for feature in ("userns", "fuse"):
        if feature in missing:
            pytest.skip(f"NO FUSE IN USER NAMESPACES, THE DRIVER IS NOT TESTED: {missing[feature]}")
    with running_world(tmp_path) as running:
        running.client.call("pod.create", pod="p")
        yield running


@pytest.mark.root
@pytest.mark.skipif(not IS_ROOT, reason="only root becomes somebody else")
def test_all_as_the_user_that_root_becomes() -> None:
    """Run this file as nobody, in the way `headrace up` started by root runs everything."""
    repository = Path(__file__).parents[3]
    place = tempfile.mkdtemp(prefix="hr-fuse-", dir="/var/tmp")
    pytest_options = ["-q", "-p", "no:cacheprovider", "--rootdir", str(repository), "--basetemp", f"{place}/tmp"]
    argv = [sys.executable, "-m", "headrace.sandbox.unprivileged", "--own", place, "--reach", str(repository), "--"]
    try:
        done = subprocess.run(
            [
                *argv,
                sys.executable,
                "-m",
                "pytest",
                "-c",
                str(repository / "pyproject.toml"),
                *pytest_options,
                __file__,
            ],
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
        assert " passed" in done.stdout
    finally:
        shutil.rmtree(place)


class Site:
    """A driver in a world, and pods that use it."""

    def __init__(self, world: RunningWorld, metaurl: str, client: WorldClient) -> None:
        self.world = world
        self.client = client
        self.orders: list[VolumeRequest] = []
        self.metaurl = metaurl
        self.argv: tuple[str, ...] = (sys.executable, "-m", "headrace.fuse.clients.juicefs")
        self.mount: dict[str, Any] = {}
        self._count = 0

    def driver(self, *, patience: Patience | None = None, persistent: bool = True, **more: Any) -> FuseDriver:
        """Return a driver as a node's agent makes one at its start."""
        patience = patience or Patience(served_within_s=20, flush_s=5)
        directory = f"{self.world.directory}/csi"

        def volumes(broker: Broker) -> WorldVolumes:
            return WorldVolumes(
                self.client,
                broker,
                f"{directory}/volumes",
                resolve=self._resolve,
                install=python_install(),
                patience=patience,
            )

        return FuseDriver(self.client, directory, permit=self._permit, volumes=volumes if persistent else None, **more)

    async def _permit(self, _request: InlineRequest) -> Terms:
        return Terms()

    async def _resolve(self, request: VolumeRequest) -> MountOrder:
        self.orders.append(request)
        mount = self.mount or {
            "mountPoint": request.attributes["mountPoint"],
            "options": {"metaurl": "/etc/fluid/secrets/volume/metaurl"},
            "readOnly": request.read_only,
        }
        return MountOrder(
            name=request.volume_id,
            argv=self.argv,
            target_path=_TARGET,
            files={
                "/etc/fluid/config/config.json": json.dumps({"mounts": [mount], "targetPath": _TARGET}).encode(),
                "/etc/fluid/secrets/volume/metaurl": request.secrets["metaurl"],
            },
            read_only=request.read_only,
        )

    async def use(self, driver: FuseDriver, name: str, *, read_only: bool = False, volume_id: str = "v") -> str:
        """Stage and publish as an agent does; return the target."""
        target = f"{self.world.directory}/pods/{name}/mount"
        attributes = {"mountPoint": "juicefs://vol"}
        secrets = {"metaurl": self.metaurl.encode()}
        await driver.stage(
            volume_id=volume_id, attributes=attributes, secrets={}, mount_options=(), read_only=read_only, fs_type=""
        )
        await driver.publish(
            volume_id=volume_id, target=target, attributes=attributes, secrets=secrets, read_only=read_only, pod=_POD
        )
        return target

    async def app(self, target: str, code: str) -> tuple[int, str]:
        """Run Python in a container that sees the volume at /data."""
        self._count += 1
        mounts = [{"target": "/data", "source": target, "propagation": "HostToContainer"}]

        def run() -> tuple[int, str]:
            argv = [sys.executable, "-c", code]
            ended = self.world.run("p", argv, container=f"app-{self._count}", mounts=mounts)
            return ended.exit_code, ended.stdout + ended.stderr

        return await to_thread.run_sync(run)

    def start_reader(self, target: str) -> None:
        mounts = [{"target": "/data", "source": target, "propagation": "HostToContainer"}]
        self.world.start("p", "reader", [sys.executable, "-c", _READER], mounts=mounts)

    def seen(self) -> list[str]:
        path = Path(self.world.log_path("p", "reader"))
        return [line.split(" ", 3)[3] for line in path.read_text().splitlines()] if path.exists() else []

    async def client_container(self) -> dict[str, Any]:
        state = await self.client.request("state")
        [found] = [c for pod in state["pods"] if pod["pod"].startswith("csi-") for c in pod["containers"]]
        return dict(found)

    async def kill_client(self) -> None:
        state = await self.client.request("state")
        pod = next(pod["pod"] for pod in state["pods"] if pod["pod"].startswith("csi-"))
        await self.client.request("container.signal", pod=pod, container="client", signal=int(signal.SIGKILL))

    async def stop_client(self) -> None:
        """Stop all of the client's processes without ending them."""
        script = "for p in /proc/[0-9]*; do grep -qa '[h]ide-internal\\|[c]lients.juicefs' $p/cmdline && kill -STOP ${p#/proc/}; done"
        await self.client.request("run", argv=["sh", "-c", script], timeout_s=10)

    async def fuse_mounts(self) -> list[str]:
        mounts = (await self.client.request("mount.list", prefix=self.world.directory))["mounts"]
        return [mount["target"] for mount in mounts if mount["type"].startswith("fuse")]


@pytest.fixture
async def site(world: RunningWorld, metaurl: str) -> AsyncIterator[Site]:
    client = WorldClient(world.socket)

    async def stay(_attachment: object) -> None:
        await anyio.sleep_forever()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(client.attach, stay)
        yield Site(world, metaurl, client)
        tasks.cancel_scope.cancel()


def driver_mount(site: Site) -> str:
    [volume] = Path(site.world.directory, "csi", "volumes").iterdir()
    return str(volume / "data" / "ds")


@asynccontextmanager
async def tended(driver: FuseDriver) -> AsyncIterator[None]:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(driver.run)
        yield
        tasks.cancel_scope.cancel()


async def until(happens: Callable[[], Awaitable[Any]], what: str, within_s: float = 20) -> None:
    with anyio.move_on_after(within_s):
        while True:
            if await happens():
                return
            await anyio.sleep(0.05)
    raise AssertionError(f"not within {within_s} s: {what}")


async def test_pods_share_one_client_and_nothing_is_left_afterwards(site: Site) -> None:
    driver = site.driver()
    first, second = await site.use(driver, "one"), await site.use(driver, "two")
    assert await site.app(first, "open('/data/file', 'w').write('shared')") == (0, "")
    assert await site.app(second, "print(open('/data/file').read())") == (0, "shared\n")
    assert len(site.orders) == 1
    assert (await site.client_container())["attempt"] == 0
    assert await driver.healthy(volume_id="v", target=first) == ""
    for target in (first, second, second):
        await driver.unpublish(volume_id="v", target=target)
    assert "not published" in await driver.healthy(volume_id="v", target=first)
    await driver.unstage(volume_id="v")
    await driver.unstage(volume_id="v")
    assert await site.fuse_mounts() == []
    assert [pod["pod"] for pod in (await site.client.request("state"))["pods"]] == ["p"]
    assert os.listdir(f"{site.world.directory}/csi/volumes") == []


async def test_the_client_has_no_privilege_and_its_secret_is_nobody_elses(site: Site) -> None:
    driver = site.driver()
    await site.use(driver, "one")
    pid = (await site.client_container())["pid"]
    status = Path(f"/proc/{pid}/status").read_text()
    assert "CapEff:\t0000000000000000" in status
    assert "NoNewPrivs:\t1" in status
    # JuiceFS calls its own file by its own uid, and its watchdog spins when it may not read it.
    shown = await site.client.request(
        "run", argv=["sh", "-c", f"stat -c %u {driver_mount(site)}/.config"], timeout_s=10
    )
    assert shown["output"] == "0\n"
    files = Path(site.world.directory, "csi", "volumes")
    secret = next(path for path in files.rglob("files/*") if path.read_text() == site.metaurl)
    assert secret.stat().st_mode & 0o077 == 0
    hidden = await site.app(
        f"{site.world.directory}/pods/one/mount", f"import os; print(os.listdir({str(files.parent)!r}))"
    )
    assert "FileNotFoundError" in hidden[1], "a pod can look into the driver's directory"


async def test_readers_and_writers_of_a_volume_are_kept_apart(site: Site) -> None:
    driver = site.driver()
    writing = await site.use(driver, "w")
    reading = await site.use(driver, "r", read_only=True)
    assert await site.app(writing, "open('/data/file', 'w').write('x')") == (0, "")
    exit_code, said = await site.app(reading, "print(open('/data/file').read()); open('/data/new', 'w')")
    assert exit_code == 1
    assert said.startswith("x\n")
    assert "Read-only file system" in said
    assert len(await site.fuse_mounts()) == 4
    await driver.unpublish(volume_id="v", target=reading)
    await driver.unpublish(volume_id="v", target=writing)
    await driver.unstage(volume_id="v")
    assert await site.fuse_mounts() == []


async def test_a_killed_client_is_replaced_and_running_pods_read_on(site: Site) -> None:
    driver = site.driver()
    async with tended(driver):
        target = await site.use(driver, "one")
        await site.app(target, "open('/data/file', 'w').write('content')")
        site.start_reader(target)

        async def reads() -> bool:
            return site.seen()[-1:] == ["content"]

        await until(reads, "the app reads")
        for attempt in (1, 2):
            before = len(site.seen())
            await site.kill_client()

            async def healed(before: int = before) -> bool:
                return len(site.seen()) > before + 1 and await reads()

            await until(healed, "the app has an error and reads again")
            assert (await site.client_container())["attempt"] == attempt
        assert {line for line in site.seen() if line.startswith("errno")} <= {"errno 103", "errno 107"}

        async def healthy() -> bool:
            return await driver.healthy(volume_id="v", target=target) == ""

        await until(healthy, "the driver says it is well")
        assert await site.use(driver, "one") == target
        assert await site.app(await site.use(driver, "late"), "print(open('/data/file').read())") == (0, "content\n")
    for name in ("one", "late"):
        await driver.unpublish(volume_id="v", target=f"{site.world.directory}/pods/{name}/mount")
    await driver.unstage(volume_id="v")
    assert await site.fuse_mounts() == []


async def test_a_pod_that_goes_after_a_healing_takes_nobody_elses_mount_along(site: Site) -> None:
    driver = site.driver()
    async with tended(driver):
        one, two = await site.use(driver, "one"), await site.use(driver, "two")
        await site.app(one, "open('/data/file', 'w').write('content')")
        await site.kill_client()

        async def healed() -> bool:
            return await site.app(two, "print(open('/data/file').read())") == (0, "content\n")

        await until(healed, "both see the new client's mount")
        await driver.unpublish(volume_id="v", target=one)
        assert await healed()
        await driver.unpublish(volume_id="v", target=two)
        await driver.unstage(volume_id="v")
    assert await site.fuse_mounts() == []


async def test_a_new_agent_goes_on_with_what_the_killed_one_left(site: Site) -> None:
    target = await site.use(site.driver(), "one")
    await site.app(target, "open('/data/file', 'w').write('kept')")
    driver = site.driver()
    async with tended(driver):
        assert await driver.healthy(volume_id="v", target=target) == ""
        await site.kill_client()

        async def restarted() -> bool:
            return (await site.client_container())["attempt"] == 1 and not await driver.healthy(
                volume_id="v", target=target
            )

        await until(restarted, "the new agent heals what the old one mounted")
        assert await site.app(target, "print(open('/data/file').read())") == (0, "kept\n")
        assert len(site.orders) == 1
    driver = site.driver()
    await driver.unpublish(volume_id="v", target=target)
    await driver.unstage(volume_id="v")
    assert await site.fuse_mounts() == []


async def test_a_client_that_ends_at_once_is_an_error_with_its_own_words(site: Site) -> None:
    driver = site.driver()
    right, site.metaurl = site.metaurl, "nosuchengine://x"
    with pytest.raises(Unavailable, match=r"ended with code 1 before it served the volume.*[Ii]nvalid meta driver"):
        await site.use(driver, "one")
    assert await site.fuse_mounts() == []
    site.metaurl = right
    target = await site.use(driver, "one")
    assert await driver.healthy(volume_id="v", target=target) == ""
    assert len(site.orders) == 2


async def test_a_server_that_does_not_answer_is_named(site: Site) -> None:
    site.metaurl = "etcd://127.0.0.1:1/x"
    with pytest.raises(Unavailable, match=r"metadata engine at 127\.0\.0\.1:1 does not answer: Connection refused"):
        await site.use(site.driver(), "one")


async def test_credentials_that_are_wrong_are_an_error_with_the_servers_words(
    site: Site, servers: tuple[str, ObjectStore]
) -> None:
    _, store = servers
    mount = {
        "mountPoint": "s3://bucket",
        "options": {"endpoint": store.endpoint, "access-key": store.access_key, "secret-key": "wrong"},
    }
    site.argv = (sys.executable, "-m", "headrace.fuse.clients.rclone")
    site.mount = mount
    with pytest.raises(Unavailable, match=r"cannot be listed: Input/output error.*SignatureDoesNotMatch") as refused:
        await site.use(site.driver(), "one")
    assert "Check the credentials" in str(refused.value)


async def test_a_world_that_was_killed_is_begun_anew(site: Site) -> None:
    first = site.driver()
    target = await site.use(first, "one")
    await site.app(target, "open('/data/file', 'w').write('kept')")
    site.world.process.kill()
    site.world.process.wait()
    site.world.client.close()
    again = start_world(site.world.directory)
    try:
        site.world.client = Client(site.world.socket)
        site.world.client.call("pod.create", pod="p")

        async def attached() -> bool:
            try:
                return bool(await site.client.request("hello"))
            except Unavailable:
                return False

        await until(attached, "the agent is attached again")
        for driver in (first, site.driver()):
            async with tended(driver):
                assert await site.use(driver, "one") == target
                assert await site.app(target, "print(open('/data/file').read())") == (0, "kept\n")
        assert (await site.client_container())["attempt"] == 0
        await driver.unpublish(volume_id="v", target=target)
        await driver.unstage(volume_id="v")
        assert await site.fuse_mounts() == []
    finally:
        again.terminate()
        again.wait(20)


async def test_a_client_that_never_mounts_is_an_error_in_time(site: Site) -> None:
    driver = site.driver(patience=Patience(served_within_s=1.5))
    site.argv = ("sleep", "600")
    with pytest.raises(Unavailable, match="did not serve it within 2 s"):
        await site.use(driver, "one")
    await driver.unpublish(volume_id="v", target=f"{site.world.directory}/pods/one/mount")
    await driver.unstage(volume_id="v")
    assert [pod["pod"] for pod in (await site.client.request("state"))["pods"]] == ["p"]


async def test_a_stopped_client_hangs_nobody_and_is_replaced(site: Site) -> None:
    driver = site.driver(patience=Patience(served_within_s=4, stall_s=1.0, flush_s=1))
    async with tended(driver):
        target = await site.use(driver, "one")
        await site.app(target, "open('/data/file', 'w').write('content')")
        await site.stop_client()

        async def replaced() -> bool:
            return (await site.client_container())["attempt"] == 1 and not await driver.healthy(
                volume_id="v", target=target
            )

        await until(replaced, "the stopped client is replaced", within_s=40)
        assert await site.app(target, "print(open('/data/file').read())") == (0, "content\n")


async def test_a_stopped_client_does_not_keep_its_volume_from_being_removed(site: Site) -> None:
    driver = site.driver(patience=Patience(flush_s=1))
    target = await site.use(driver, "one")
    await site.stop_client()
    with anyio.fail_after(30):
        await driver.unpublish(volume_id="v", target=target)
        await driver.unstage(volume_id="v")
    assert await site.fuse_mounts() == []


async def test_a_killed_broker_is_started_again_and_knows_its_volumes(site: Site) -> None:
    driver = site.driver()
    target = await site.use(driver, "one")
    state = await site.client.request("state")
    [service] = state["services"]
    await site.client.request(
        "run",
        argv=["sh", "-c", "kill -9 $(grep -la 'fuse.broker' /proc/[0-9]*/cmdline | cut -d/ -f3 | grep -vx $$)"],
        timeout_s=10,
    )

    async def well() -> bool:
        return await driver.healthy(volume_id="v", target=target) == ""

    await until(well, "the broker is back")
    assert service["service"] == "fuse-broker"
    assert await site.use(driver, "one") == target


async def test_a_sidecars_two_volumes_in_any_order(site: Site) -> None:
    driver = site.driver(persistent=False)
    places = {role: f"{site.world.directory}/pods/inline/{role}" for role in ("socket", "data")}
    for _ in range(2):
        for role, target in places.items():
            await driver.publish(
                volume_id=f"csi-{role}",
                target=target,
                attributes={"dataset": "set", "role": role},
                secrets={},
                read_only=False,
                pod=_INLINE,
            )
    listed = await site.client.request("run", argv=["ls", places["socket"], places["data"]], timeout_s=10)
    assert {"bin", "broker.sock", "device", "ds"} <= set(listed["output"].split())
    written = await site.client.request("run", argv=["touch", f"{places['socket']}/x"], timeout_s=10)
    assert "Read-only file system" in written["output"]
    files = {
        "config.json": json.dumps(
            {"mounts": [{"mountPoint": "juicefs://vol", "options": {"metaurl": site.metaurl}}], "targetPath": _TARGET}
        )
    }
    config = Path(site.world.directory, "config")
    config.mkdir()
    for name, text in files.items():
        (config / name).write_text(text)
    mounts = [
        {"target": os.path.dirname(_TARGET), "source": places["data"], "propagation": "HostToContainer"},
        {"target": "/run/headrace/fuse", "source": places["socket"], "read_only": True},
        {"target": "/run/headrace/bin", "source": places["socket"], "sub_path": "bin", "read_only": True},
        {"target": "/etc/fluid/config", "source": str(config), "read_only": True},
        {"target": "/tmp", "tmpfs": {}},
    ]
    site.world.start("p", "fluid-fuse-0", [sys.executable, "-m", "headrace.fuse.clients.juicefs"], mounts=mounts)

    async def served() -> bool:
        probe = [sys.executable, "-m", "headrace.fuse.served", f"{places['data']}/ds"]
        return bool((await site.client.request("run", argv=probe, timeout_s=10))["exit_code"] == 0)

    await until(served, "the sidecar serves")
    assert await site.app(f"{places['data']}/ds", "open('/data/a', 'w').write('1')") == (0, "")
    for role in ("data", "socket", "socket", "data"):
        await driver.unpublish(volume_id=f"csi-{role}", target=places[role])
    assert await site.fuse_mounts() == []
    mounted = (await site.client.request("mount.list", prefix=f"{site.world.directory}/pods"))["mounts"]
    assert mounted == []
    assert os.listdir(f"{site.world.directory}/csi/inline/pairs") == []


@pytest.mark.parametrize("attributes", [{}, {"dataset": "set"}, {"dataset": "set", "role": "root"}, {"role": "data"}])
async def test_an_inline_volume_that_is_none_is_refused(site: Site, attributes: dict[str, str]) -> None:
    with pytest.raises(InvalidSpec, match="needs the attributes dataset"):
        await site.driver().publish(
            volume_id="x", target="/nowhere", attributes=attributes, secrets={}, read_only=False, pod=_INLINE
        )
