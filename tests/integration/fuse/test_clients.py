"""The clients' entry points in sandboxed sidecars without privilege, on real storage."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.fuse.pods import TARGET, ObjectStore, Pods, format_juicefs, object_store, wait_until

from headrace.sandbox.testing import missing_features, running_world

pytestmark = pytest.mark.fuse

_LIST = "import os; print(sorted(os.listdir('/data')))"
_READ = "import sys, hashlib; print(hashlib.sha256(open('/data/' + sys.argv[1], 'rb').read()).hexdigest())"


@pytest.fixture
def storage() -> Iterator[Path]:
    """A directory that both the tests' user and the world's can write."""
    place = Path(tempfile.mkdtemp(prefix="hr-fuse-", dir="/var/tmp"))
    place.chmod(0o777)
    yield place
    shutil.rmtree(place)


@pytest.fixture
def pods(tmp_path: Path, storage: Path) -> Iterator[Pods]:
    missing = missing_features()
    for feature in ("userns", "fuse"):
        if feature in missing:
            pytest.skip(f"NO FUSE IN USER NAMESPACES, CLIENTS ARE NOT TESTED: {missing[feature]}")
    with running_world(tmp_path) as world:
        yield Pods(world, storage)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ObjectStore]:
    with object_store(tmp_path / "objects") as running:
        yield running


def _file_volume(storage: Path) -> str:
    """Make a JuiceFS volume with SQLite metadata and a file store, writable for the world; return its address."""
    meta = f"sqlite3://{storage}/meta.db"
    format_juicefs(meta, "--storage", "file", "--bucket", f"{storage}/objects/")
    _open_to_all(storage)
    return meta


def _open_to_all(storage: Path) -> None:
    for path in storage.rglob("*"):
        path.chmod(0o777)


def test_juicefs_writes_counts_and_flushes_at_its_end(pods: Pods, storage: Path) -> None:
    meta = _file_volume(storage)
    mount = {"mountPoint": "juicefs://vol", "options": {"metaurl": "/etc/fluid/secrets/s/metaurl", "buffer-size": "64"}}
    name = pods.sidecar("juicefs", mount, files={"s/metaurl": meta + "\n"}, config={"accessModes": ["ReadWriteMany"]})
    pods.served()
    code = "import os; open('/data/a', 'wb').write(os.urandom(1 << 20)); os.mkdir('/data/d')"
    assert pods.app(code) == (0, "")
    exit_code, first = pods.app(_READ.replace("sys.argv[1]", "'a'"))
    assert exit_code == 0
    seen = wait_until(lambda: pods.counters(name), "counters")
    assert seen["client"] == "juicefs"
    assert seen["sentBytes"] == 1 << 20
    ended = pods.stop(name)
    assert ended["exit_code"] == 0, pods.logs()
    last = json.loads(ended["termination_message"])
    name = pods.sidecar("juicefs", mount, files={"s/metaurl": meta})
    pods.served()
    assert pods.app(_READ.replace("sys.argv[1]", "'a'")) == (0, first)
    assert pods.app(_LIST) == (0, "['a', 'd']\n")
    assert last["sentBytes"] == 1 << 20


def test_juicefs_on_an_object_store_reads_a_sub_directory_only_and_says_what_it_fetched(
    pods: Pods, storage: Path, store: ObjectStore
) -> None:
    meta = f"sqlite3://{storage}/meta.db"
    keys = ["--access-key", store.access_key, "--secret-key", store.secret_key]
    format_juicefs(meta, "--storage", "s3", "--bucket", f"{store.endpoint}/bucket", *keys)
    _open_to_all(storage)
    writer = pods.sidecar("juicefs", {"mountPoint": "juicefs://vol", "options": {"metaurl": meta}})
    pods.served()
    code = "import os; os.mkdir('/data/sub'); open('/data/sub/x', 'wb').write(os.urandom(3_000_000)); print('written')"
    assert pods.app(code) == (0, "written\n"), pods.logs()
    pods.stop(writer)
    shutil.rmtree(pods.place / "cache", ignore_errors=True)
    (pods.place / "cache").mkdir()
    os.chown(pods.place / "cache", *_owner(pods.place))
    volume = {
        "driver": "fuse.headrace.io",
        "volumeAttributes": {"mountPoint": "juicefs://vol", "option.subdir": "/sub"},
        "nodePublishSecretRef": {"name": "s"},
    }
    reader = pods.sidecar(
        "juicefs",
        {"mountPoint": "pvc://claim"},
        files={"s/metaurl": meta},
        config={"accessModes": ["ReadOnlyMany"], "persistentVolumeAttrs": {"claim": volume}},
    )
    pods.served()
    assert pods.app(_LIST) == (0, "['x']\n")
    assert pods.app(_READ.replace("sys.argv[1]", "'x'"))[0] == 0
    exit_code, said = pods.app("open('/data/new', 'w')")
    assert (exit_code, "Read-only file system" in said) == (1, True)
    seen = wait_until(lambda: pods.counters(reader), "counters")
    assert seen["readBytes"] == 3_000_000
    assert 3_000_000 <= seen["fetchedBytes"] <= 3_060_000


def _owner(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_uid, found.st_gid


def test_rclone_reads_a_bucket_with_nothing_secret_in_sight(pods: Pods, store: ObjectStore) -> None:
    (store.directory / "bucket" / "train").mkdir()
    (store.directory / "bucket" / "train" / "x").write_bytes(os.urandom(2_000_000))
    mount = {
        "mountPoint": "s3://bucket/train",
        "options": {
            "endpoint": store.endpoint,
            "provider": "Rclone",
            "access-key": "/etc/fluid/secrets/s/access",
            "secret-key": "/etc/fluid/secrets/s/secret",
        },
        "readOnly": True,
    }
    files = {"s/access": store.access_key, "s/secret": store.secret_key}
    name = pods.sidecar("rclone", mount, files=files)
    pods.served()
    assert pods.app(_LIST) == (0, "['x']\n")
    assert pods.app(_READ.replace("sys.argv[1]", "'x'"))[0] == 0
    [pid] = [
        pod["pid"]
        for pods_ in pods.world.client.call("state")["pods"]
        for pod in pods_["containers"]
        if pod["container"] == name
    ]
    assert pid
    shown = pods.command("sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '")["output"]
    assert TARGET in shown
    assert store.secret_key not in shown
    seen = wait_until(lambda: pods.counters(name), "counters")
    assert 2_000_000 <= seen["fetchedBytes"] <= 2_040_000
    assert (seen["readBytes"], seen["hitRatio"]) == (None, None)
    exit_code, said = pods.app("open('/data/new', 'w')")
    assert (exit_code, "Read-only file system" in said) == (1, True)


@pytest.mark.parametrize("write_back", [{}, {"vfs-write-back": "0s"}, {"vfs-write-back": "1h"}])
def test_what_an_app_has_just_written_is_in_the_storage_when_rclone_ends(
    pods: Pods, store: ObjectStore, write_back: dict[str, str]
) -> None:
    options = {
        "endpoint": store.endpoint,
        "provider": "Rclone",
        "access-key": store.access_key,
        "secret-key": store.secret_key,
        **write_back,
    }
    mount = {"mountPoint": "s3://bucket", "options": options}
    name = pods.sidecar("rclone", mount, config={"accessModes": ["ReadWriteMany"]})
    pods.served()
    assert pods.app("open('/data/new', 'w').write('mine')") == (0, ""), pods.logs()
    assert pods.stop(name)["exit_code"] == 0
    assert (store.directory / "bucket" / "new").read_text() == "mine"


def test_several_buckets_stand_beside_each_other(pods: Pods, store: ObjectStore) -> None:
    (store.directory / "second").mkdir()
    (store.directory / "bucket" / "a").write_text("1")
    (store.directory / "second" / "b").write_text("2")
    keys = {"endpoint": store.endpoint, "access-key": store.access_key, "secret-key": store.secret_key}
    mounts = [
        {"mountPoint": "s3://bucket", "path": "/one", "options": keys},
        {"mountPoint": "s3://second", "name": "two", "options": keys},
    ]
    pods.sidecar("rclone", mounts[0], config={"mounts": mounts})
    pods.served()
    assert pods.app("print(open('/data/one/a').read() + open('/data/two/b').read())") == (0, "12\n")


@pytest.mark.parametrize("client", ["rclone", "juicefs"])
def test_where_nothing_can_be_mounted_the_client_copies(
    pods: Pods, storage: Path, store: ObjectStore, client: str
) -> None:
    if client == "rclone":
        (store.directory / "bucket" / "deep").mkdir()
        (store.directory / "bucket" / "deep" / "x").write_text("content")
        keys = {"endpoint": store.endpoint, "access-key": store.access_key, "secret-key": store.secret_key}
        mount = {"mountPoint": "s3://bucket", "options": keys}
    else:
        mount = {"mountPoint": "juicefs://vol", "options": {"metaurl": _file_volume(storage)}}
        writer = pods.sidecar("juicefs", mount, config={"accessModes": ["ReadWriteMany"]})
        pods.served()
        assert pods.app("import os; os.mkdir('/data/deep'); open('/data/deep/x', 'w').write('content')") == (0, "")
        pods.stop(writer)
        pods.order("unregister", id="v")
        pods.order("register", id="v", data_dir=str(pods.data), socket_dir=str(pods.sockets))
    after = pods.world.client.call("hello")["journal_seq"]
    name = pods.sidecar(client, mount, arguments=["--copy"])
    follower = pods.world.follow(after)
    ended = next(e for e in follower.events(30) if e["type"] == "container-exited" and e["container"] == name)
    follower.close()
    assert ended["exit_code"] == 0, pods.logs()
    assert pods.app("print(open('/data/deep/x').read())") == (0, "content\n"), pods.logs()


@pytest.mark.parametrize(
    ("client", "mount", "sentence"),
    [
        ("juicefs", {"mountPoint": "juicefs://v"}, "JuiceFS needs option metaurl"),
        ("juicefs", {"mountPoint": "s3://b"}, "s3://b is not JuiceFS's"),
        (
            "juicefs",
            {"mountPoint": "juicefs://v", "options": {"metaurl": "sqlite3:///x", "cache-siez": "1"}},
            "juicefs mount has no option 'cache-siez'. Did you mean cache-size?",
        ),
        (
            "juicefs",
            {"mountPoint": "juicefs://v", "options": {"metaurl": "/etc/fluid/secrets/none/metaurl"}},
            "/etc/fluid/secrets/none/metaurl, which cannot be read: No such file",
        ),
        ("rclone", {"mountPoint": "juicefs://v"}, "is no S3 bucket"),
    ],
)
def test_what_cannot_be_mounted_is_said_in_one_sentence(
    pods: Pods, client: str, mount: dict[str, object], sentence: str
) -> None:
    after = pods.world.client.call("hello")["journal_seq"]
    name = pods.sidecar(client, mount)
    follower = pods.world.follow(after)
    ended = next(e for e in follower.events(20) if e["type"] == "container-exited" and e["container"] == name)
    follower.close()
    assert ended["exit_code"] == 1
    assert sentence in pods.logs()
    assert "Traceback" not in pods.logs()
