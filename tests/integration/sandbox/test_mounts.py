"""Volumes: binds, mounts made in the world while containers run, and places that have to be made first."""

import os
from pathlib import Path

import pytest

from headrace.sandbox import mounts
from headrace.sandbox.testing import (
    RunningWorld,
    missing_features,
    mounts_of_machine,
    read_log,
    running_world,
    wait_until,
)
from headrace.sandbox.wire import Refusal


def shell(script: str) -> list[str]:
    return ["sh", "-c", script]


@pytest.fixture
def volume(world: RunningWorld) -> str:
    """A directory in the world's own, with a tmpfs on it."""
    place = os.path.join(world.directory, "volumes", "v")
    world.client.call("mount.tmpfs", target=place, mode=0o755, size_bytes=1 << 20)
    return place


def wait_for(world: RunningWorld, pod: str, container: str, line: str) -> None:
    """Return once the container's log has `line`; only events of the journal and the log itself are looked at."""
    path = world.log_path(pod, container)
    wait_until(lambda: os.path.exists(path) and any(text == f"{line}\n" for _, text in read_log(path)))


def test_what_the_world_mounts_appears_in_running_containers_and_goes_again(world: RunningWorld, volume: str) -> None:
    script = (
        "echo up; until test -e /data/ds/file; do sleep 0.01; done; cat /data/ds/file; "
        "until ! test -e /data/ds/file; do sleep 0.01; done; echo gone; exec sleep 1000"
    )
    bind = [{"source": volume, "target": "/data", "propagation": "HostToContainer"}]
    world.start("p", "sees", shell(script), mounts=bind)
    private = [{"source": volume, "target": "/data", "propagation": "none"}]
    world.start("p", "does-not", shell("echo up; sleep 1; ls -A /data/ds; echo end; exec sleep 1000"), mounts=private)
    wait_for(world, "p", "sees", "up")
    wait_for(world, "p", "does-not", "up")
    world.client.call("mount.tmpfs", target=f"{volume}/ds", mode=0o755)
    written = world.client.call("run", argv=shell(f"echo inside > {volume}/ds/file"))
    assert written["exit_code"] == 0
    wait_for(world, "p", "sees", "inside")
    wait_for(world, "p", "does-not", "end")
    assert "inside" not in Path(world.log_path("p", "does-not")).read_text()
    assert world.client.call("mount.unmount", target=f"{volume}/ds")["unmounted"] == 1
    wait_for(world, "p", "sees", "gone")


def test_a_mount_stacked_on_a_sub_directory_heals_a_bind_of_it(world: RunningWorld, volume: str) -> None:
    """How a FUSE client that died is replaced: the new mount goes on top, and is seen through `subPath: ds`."""
    world.client.call("mount.tmpfs", target=f"{volume}/ds", mode=0o755)
    world.client.call("run", argv=shell(f"echo first > {volume}/ds/file"))
    bind = [{"source": f"{volume}/ds", "target": "/data", "propagation": "HostToContainer"}]
    world.start("p", "main", shell("cat /data/file; until grep second /data/file; do sleep 0.01; done"), mounts=bind)
    wait_for(world, "p", "main", "first")
    stacked = world.client.call(
        "run", argv=shell(f"mount -t tmpfs second {volume}/ds && echo second > {volume}/ds/file")
    )
    assert stacked["exit_code"] == 0, stacked["output"]
    wait_for(world, "p", "main", "second")
    assert world.client.call("mount.unmount", target=f"{volume}/ds", all=True, lazy=True)["unmounted"] == 2


def test_mount_orders_are_idempotent(world: RunningWorld, volume: str) -> None:
    call = world.client.call
    assert call("mount.tmpfs", target=volume, mode=0o755)["already"]
    assert not call("mount.bind", source=volume, target=f"{volume}-2")["already"]
    assert call("mount.bind", source=volume, target=f"{volume}-2")["already"]
    listed = call("mount.list", prefix=os.path.dirname(volume))["mounts"]
    assert [(found["target"], found["type"]) for found in listed] == [(volume, "tmpfs"), (f"{volume}-2", "tmpfs")]
    assert call("mount.unmount", target=f"{volume}-2")["unmounted"] == 1
    assert call("mount.unmount", target=f"{volume}-2")["unmounted"] == 0
    assert call("mount.unmount", target="/no/such/place", all=True)["unmounted"] == 0


def test_refusals_of_mount_orders(world: RunningWorld, volume: str) -> None:
    with pytest.raises(Refusal, match="/no/source cannot be bound: it does not exist"):
        world.client.call("mount.bind", source="/no/source", target=f"{volume}-2")
    with pytest.raises(Refusal, match="is a mount of the machine"):
        world.client.call("mount.unmount", target="/sys")
    world.start("p", "main", ["sleep", "1000"], mounts=[{"source": volume, "target": "/data"}])
    with pytest.raises(Refusal, match="must be an absolute path"):
        world.client.call("mount.tmpfs", target="relative")


def test_nothing_of_it_is_mounted_on_the_machine(world: RunningWorld, volume: str) -> None:
    assert mounts_of_machine(world.directory) == []


def test_read_only_and_writable_binds(world: RunningWorld) -> None:
    place = os.path.join(world.directory, "plain")
    world.client.call("run", argv=shell(f"mkdir {place}; echo there > {place}/file"))
    binds = [{"source": place, "target": "/rw"}, {"source": place, "target": "/ro", "read_only": True}]
    ended = world.run(
        "p", shell("cat /ro/file; echo more >> /rw/file; cat /ro/file; echo no > /ro/file"), mounts=binds, uid=1000
    )
    assert ended.stdout == "there\nthere\nmore\n"
    assert "Read-only file system" in ended.stderr
    owner = os.stat(f"{place}/file").st_uid
    assert owner == (65534 if os.geteuid() == 0 else os.geteuid())


def test_missing_places_are_made_where_nothing_can_be_written(world: RunningWorld, volume: str) -> None:
    targets = ["/data", "/etc/made/deep/place", "/usr/lib/os-release.d/x", "/etc/headrace-file"]
    binds = [
        {"source": volume, "target": targets[0]},
        {"tmpfs": {"size_bytes": 1 << 16}, "target": targets[1]},
        {"source": volume, "target": targets[2], "read_only": True},
        {"source": "/etc/passwd", "target": targets[3], "read_only": True},
    ]
    script = "for t in $@; do test -e $t && echo $t; done; touch /etc/made/deep/place/f && ls /etc/made/deep/place; head -c 4 /etc/headrace-file"
    ended = world.run("p", ["sh", "-c", script, "sh", *targets], mounts=binds)
    assert ended.stdout == "\n".join([*targets, "f", "root\n"])
    ended = world.run(
        "p",
        shell("ls -A /etc; readlink /etc/mtab /etc/localtime /etc/alternatives/awk; touch /etc/x"),
        mounts=binds,
        container="2",
    )
    outside = {*os.listdir("/etc"), "made", "headrace-file"}
    links = [
        os.readlink(path) for path in ("/etc/mtab", "/etc/localtime", "/etc/alternatives/awk") if os.path.islink(path)
    ]
    assert ended.stdout.split() == [*sorted(outside, key=ended.stdout.split().index), *links]
    assert "Read-only file system" in ended.stderr, "what was made writable to fit the place in is closed again"


def test_sub_paths_stay_inside_their_volume(world: RunningWorld, volume: str) -> None:
    script = f"mkdir {volume}/in; echo here > {volume}/in/file; ln -s in {volume}/link; ln -s /etc {volume}/out; ln -s ../.. {volume}/up"
    assert world.client.call("run", argv=shell(script))["exit_code"] == 0

    def bind(sub_path: str) -> list[dict[str, str]]:
        return [{"source": volume, "sub_path": sub_path, "target": "/data"}]

    assert world.run("p", ["cat", "/data/file"], mounts=bind("in")).stdout == "here\n"
    assert world.run("p", ["cat", "/data/file"], mounts=bind("link"), container="link").stdout == "here\n"
    assert world.run("p", ["cat", "/data"], mounts=bind("in/file"), container="file").stdout == "here\n"
    assert world.run("p", ["touch", "/data/x"], mounts=bind("new/deep"), container="new").exit_code == 0
    assert world.client.call("run", argv=["ls", f"{volume}/new/deep"])["output"] == "x\n"
    for sub_path in ("out", "up", "out/apt"):
        with pytest.raises(Refusal, match=f"sub-path '{sub_path}' of the volume on /data: it leads out of the volume"):
            world.start("p", "leaves", ["true"], mounts=bind(sub_path))
    with pytest.raises(Refusal, match=r"sub_path must be relative and without '\.\.'"):
        world.start("p", "leaves", ["true"], mounts=bind("in/../.."))


def test_flags_that_are_locked_stay(world: RunningWorld) -> None:
    """nosuid, nodev and noexec of a mount cannot be lost by making it read-only in a user namespace."""
    marked = [found for found in mounts.listed() if found["target"].startswith("/sys") or "nosuid" in found["options"]]
    marked = [found for found in marked if not found["target"].startswith(("/proc", "/dev", "/tmp", "/run/user"))]
    if not marked:
        pytest.skip("no mount with such flags on this machine")
    ended = world.run("p", ["cat", "/proc/self/mountinfo"])
    path = Path(world.directory, "mountinfo")
    path.write_text(ended.stdout)
    inside = {found["target"]: found["options"] for found in mounts.listed(str(path))}
    for found in marked:
        if found["target"] in inside:
            kept = set(inside[found["target"]])
            assert {"nosuid", "nodev", "noexec"} & set(found["options"]) <= kept, found["target"]
            assert "ro" in kept, found["target"]


def test_a_directory_as_root_with_links_that_lead_out(world: RunningWorld, volume: str) -> None:
    """An image is not trusted: an absolute link in it is absolute inside it."""
    image = os.path.join(world.directory, "image")
    script = (
        f"mkdir -p {image}/app {image}/etc {image}/usr; ln -s /etc {image}/app/conf; ln -s ../../../../../../.. {image}/app/up;"
        f"ln -s usr/bin {image}/bin; cp -r --parents /bin/busybox {image} 2>/dev/null; true"
    )
    assert world.client.call("run", argv=shell(script))["exit_code"] == 0
    binds = [
        {"source": "/usr", "target": "/usr", "read_only": True},
        {"source": "/lib64", "target": "/lib64"},
        {"source": "/lib", "target": "/lib"},
        {"source": volume, "target": "/app/conf/in-image"},
        {"source": volume, "target": "/app/up/at-top"},
    ]
    ended = world.run(
        "p",
        shell("ls -d /etc/in-image /at-top; ls /; touch /app/x"),
        root=image,
        mounts=binds,
        etc_hosts="127.0.0.1 x\n",
    )
    assert " ".join(ended.stdout.split()) == "/at-top /etc/in-image app at-top bin dev etc lib lib64 proc sys tmp usr"
    assert "Read-only file system" in ended.stderr
    assert not os.path.exists("/etc/in-image")
    ended = world.run(
        "p", shell("touch /app/x && ls /app"), root=image, mounts=binds, container="w", read_only_root=False
    )
    assert ended.stdout.split() == ["conf", "up", "x"]


def test_fuse_mounts_work_where_the_machine_has_them(tmp_path: Path) -> None:
    missing = missing_features()
    if "userns" in missing:
        pytest.skip(f"NO USER NAMESPACES: {missing['userns']}")
    with running_world(tmp_path) as world:
        features = world.client.call("hello")["features"]
        assert features["fuse"] == ("fuse" not in missing)
        assert features["userns"]


SHORT_START = (
    "import sys; from headrace.sandbox import mounts, starting, world; starting._START_WITHIN_S = mounts._WITHIN_S = 0.5;"
    "sys.exit(world.main(sys.argv[1:]))"
)


MOUNTED = """
import ctypes, os, sys, time
fd = os.open('/dev/fuse', os.O_RDWR)
data = f'fd={fd},rootmode=40000,user_id=0,group_id=0,allow_other'.encode()
assert ctypes.CDLL(None).mount(b'dead', sys.argv[1].encode(), b'fuse', 6, data) == 0
print('mounted', flush=True)
"""
UNSERVED = MOUNTED + "time.sleep(1000)"
TAKEN = (
    MOUNTED
    + """
import struct
unique = struct.unpack_from("=IIQ", os.read(fd, 1 << 17))[2]
init = struct.pack("=IIIIHHIIHHI28x", 7, 31, 65536, 0, 12, 9, 131072, 1, 32, 0, 0)
os.write(fd, struct.pack("=IiQ", 16 + len(init), 0, unique) + init)
while os.read(fd, 1 << 18):
    print("taken", flush=True)
"""
)


def held_mount(world: RunningWorld, program: str) -> str:
    """Mount FUSE in the world for a program that holds its connection and answers nobody; return where."""
    dead = os.path.join(world.directory, "dead")
    os.mkdir(dead)
    if os.geteuid() == 0:
        os.chown(dead, 65534, 65534)
    log = {"path": world.log_path("world", "holder")}
    world.client.call("service.start", service="holder", argv=["python3", "-c", program, dead], log=log)
    wait_for(world, "world", "holder", "mounted")
    return dead


def require_fuse() -> None:
    missing = missing_features()
    if why := missing.get("userns") or missing.get("fuse"):
        pytest.skip(f"NO FUSE IN USER NAMESPACES: {why}")


def test_a_world_ends_though_a_killed_container_waits_in_fuse(tmp_path: Path) -> None:
    """A request that was taken and is never answered is waited for through SIGKILL, as long as its connection lives."""
    require_fuse()
    with running_world(tmp_path) as world:
        world.client.call("pod.create", pod="p")
        bind = [{"source": held_mount(world, TAKEN), "target": "/data", "propagation": "HostToContainer"}]
        world.start("p", "waits", ["ls", "/data"], mounts=bind)
        wait_for(world, "world", "holder", "taken")


def test_an_unserved_fuse_mount_hangs_nobody_but_who_opens_it(tmp_path: Path) -> None:
    """The trap: a mount whose client is not there. World, other containers, unmounting and removal all go on."""
    require_fuse()
    with running_world(tmp_path, main=SHORT_START) as world:
        world.client.call("pod.create", pod="p")
        dead = held_mount(world, UNSERVED)
        assert world.run("p", ["echo", "fine"]).stdout == "fine\n"
        bind = [{"source": dead, "target": "/data", "propagation": "HostToContainer"}]
        world.start("p", "hangs", ["ls", "/data"], mounts=bind)
        with pytest.raises(Refusal, match="does one of its volumes hang") as refused:
            world.start("p", "looks-inside", ["true"], mounts=[{**bind[0], "sub_path": "inside"}])
        assert refused.value.code == "Timeout"
        wait_until(lambda: len(world.client.call("state")["pods"][0]["containers"]) == 2)
        with pytest.raises(Refusal, match="took longer than"):
            world.client.call("mount.bind", source=f"{dead}/inside", target=f"{dead}-2")
        world.client.call("pod.remove", pod="p")
        assert world.client.call("mount.unmount", target=dead, all=True)["unmounted"] == 1
        assert world.client.call("state")["pods"] == []
