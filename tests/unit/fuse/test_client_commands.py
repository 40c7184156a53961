"""The command lines of real clients: what is asked for is there, and nothing secret is."""

from __future__ import annotations

from pathlib import Path

import pytest

from headrace.fuse.clients import juicefs, rclone
from headrace.fuse.clients.contract import Contract, Mount, Unusable


def _contract(*mounts: Mount, read_only: bool = False) -> Contract:
    return Contract(target_path="/t/ds", mounts=mounts, read_only=read_only)


def _juicefs(read_only: bool = False, **options: str) -> tuple[list[str], dict[str, str]]:
    named = {key.replace("_", "-"): value for key, value in options.items()}
    mount = Mount(point="juicefs://vol", path="", options=named)
    command = juicefs.command_for(_contract(mount, read_only=read_only), program="juicefs", port=1234)
    return list(command.argv), dict(command.env)


def test_juicefs_stays_in_the_foreground_and_reports_to_nobody() -> None:
    argv, env = _juicefs(metaurl="redis://h/1", cache_dir="/c")
    assert argv == [
        "juicefs", "--no-agent", "--no-color", "mount", "--no-usage-report", "--hide-internal", "--no-syslog",
        "--metrics", "127.0.0.1:1234", "--cache-dir", "/c", "redis://h/1", "/t/ds",
    ]  # fmt: skip
    assert env == {}


def test_juicefs_options_are_its_flags_by_name() -> None:
    argv, _ = _juicefs(metaurl="redis://h/1", subdir="/a", writeback="true", fast_statfs="", no_bgjob="false")
    assert argv[argv.index("--subdir") + 1] == "/a"
    assert {"--writeback", "--fast-statfs"} <= set(argv)
    assert "--no-bgjob" not in argv
    assert "--read-only" not in argv
    assert "--read-only" in _juicefs(read_only=True, metaurl="redis://h/1")[0]


@pytest.mark.parametrize(
    ("metaurl", "shown"),
    [
        ("redis://:s3cret@h:6379/1", "redis://h:6379/1"),
        ("rediss://user:s3cret@h/1", "rediss://user@h/1"),
        ("postgres://user:s3cret@h/db?sslmode=disable", "postgres://user:@h/db?sslmode=disable"),
        ("mysql://user:s3cret@(h:3306)/db", "mysql://user:@(h:3306)/db"),
    ],
)
def test_a_password_of_the_metadata_engine_is_not_on_the_command_line(metaurl: str, shown: str) -> None:
    argv, env = _juicefs(metaurl=metaurl)
    assert argv[-2:] == [shown, "/t/ds"]
    assert "s3cret" not in " ".join(argv)
    assert env == {"META_PASSWORD": "s3cret"}


def test_an_escaped_password_reaches_the_engine_as_it_is() -> None:
    assert _juicefs(metaurl="postgres://u:a%40b@h/d")[1] == {"META_PASSWORD": "a@b"}


@pytest.mark.parametrize("metaurl", ["etcd://user:s3cret@h:2379/p", "tikv://u:s3cret@h/p"])
def test_a_password_that_would_be_shown_is_refused_with_the_cure(metaurl: str) -> None:
    with pytest.raises(Unusable, match="client certificates") as refused:
        _juicefs(metaurl=metaurl)
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize("metaurl", ["etcd://h:2379/p", "sqlite3:///a/b@c.db", "redis://h/1"])
def test_an_engine_without_a_password_is_left_as_it_is(metaurl: str) -> None:
    assert _juicefs(metaurl=metaurl)[0][-2] == metaurl


def test_keys_of_the_object_store_are_in_the_environment() -> None:
    argv, env = _juicefs(metaurl="redis://h/1", access_key="AK", secret_key="SK")
    assert env == {"AWS_ACCESS_KEY_ID": "AK", "AWS_SECRET_ACCESS_KEY": "SK"}
    assert "SK" not in argv


def test_juicefs_copies_its_sub_directory() -> None:
    mount = Mount(point="juicefs://vol", path="", options={"metaurl": "redis://:pw@h/1", "subdir": "/a/"})
    command = juicefs.copy_command_for(_contract(mount), program="juicefs")
    assert command.argv[-2:] == ("jfs://VOLUME/a/", "/t/ds/")
    assert command.env == {"VOLUME": "redis://h/1", "META_PASSWORD": "pw"}


def test_several_mounts_are_no_work_for_juicefs() -> None:
    mount = Mount(point="juicefs://vol", path="", options={"metaurl": "redis://h/1"})
    with pytest.raises(Unusable, match="has 2 mounts"):
        juicefs.command_for(_contract(mount, mount), program="juicefs", port=1)


def _s3(point: str = "s3://bucket/pre", path: str = "", **options: str) -> Mount:
    named = {"access-key": "AK", "secret-key": "SECRET", **{key.replace("_", "-"): v for key, v in options.items()}}
    return Mount(point=point, path=path, options=named)


def test_rclone_has_its_secrets_in_a_file_for_itself(tmp_path: Path) -> None:
    command = rclone.command_for(
        _contract(_s3(endpoint="http://h", cache_size="10G", vfs_read_ahead="1M"), read_only=True),
        program="rclone",
        place=str(tmp_path),
        owner=(7, 8),
    )
    text = " ".join(command.argv)
    assert command.argv[:4] == ("rclone", "mount", "--config", f"{tmp_path}/rclone.conf")
    assert command.argv[-2:] == ("origin0:bucket/pre", "/t/ds")
    for words in (
        "--read-only",
        "--vfs-cache-max-size 10G",
        "--vfs-read-ahead 1M",
        "--uid 7",
        "--gid 8",
        "--use-server-modtime",
    ):
        assert words in text
    assert "SECRET" not in text
    assert not any(word.startswith("--rc") for word in command.argv)
    assert (tmp_path / "rclone.conf").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "rclone.conf").read_text() == (
        "[origin0]\ntype = s3\nprovider = Other\naccess_key_id = AK\nsecret_access_key = SECRET\nendpoint = http://h\n"
    )
    assert command.metrics is not None
    assert command.metrics.reader == "rclone-ro"


def test_rclone_can_be_asked_what_it_has_not_written_where_nobody_else_can_ask(tmp_path: Path) -> None:
    command = rclone.command_for(_contract(_s3()), program="rclone", place=str(tmp_path), owner=(7, 8))
    text = " ".join(command.argv)
    assert command.uploads is not None
    assert f"--rc --rc-no-auth --rc-addr unix://{tmp_path}/control.sock" in text
    assert command.uploads.path == f"{tmp_path}/control.sock"


def test_without_keys_the_machines_own_role_is_used(tmp_path: Path) -> None:
    mount = Mount(point="s3://bucket", path="", options={"region": "eu-1"})
    rclone.copy_command_for(_contract(mount), program="rclone", place=str(tmp_path))
    text = (tmp_path / "rclone.conf").read_text()
    assert "env_auth = true" in text
    assert "provider = AWS" in text


def test_a_secret_with_a_line_break_cannot_add_a_section(tmp_path: Path) -> None:
    with pytest.raises(Unusable, match="line break"):
        rclone.copy_command_for(_contract(_s3(secret_key="a\n[x]\ntype = local")), program="r", place=str(tmp_path))


@pytest.mark.parametrize(
    ("mount", "sentence"),
    [
        (_s3("s3://"), "names no bucket"),
        (_s3("http://h/b"), "is no S3 bucket"),
        (_s3(vfs_cach_mode="full"), "Did you mean vfs-cache-mode"),
        (_s3(rc_addr=":1"), "has no option 'rc-addr'"),
    ],
)
def test_rclone_says_what_it_cannot_mount(tmp_path: Path, mount: Mount, sentence: str) -> None:
    with pytest.raises(Unusable, match=sentence):
        rclone.command_for(_contract(mount), program="rclone", place=str(tmp_path), owner=(0, 0))


def test_two_mounts_of_one_path_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Unusable, match="same path"):
        rclone.copy_command_for(_contract(_s3(path="a"), _s3(path="a")), program="r", place=str(tmp_path))
