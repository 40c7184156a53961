"""Reading mountinfo, what of a client's options is honoured, and paths that must not be followed."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from headrace.fuse import mounts

_MOUNTINFO = r"""22 27 0:21 / /proc rw,relatime - proc proc rw
40 27 0:33 / /data rw shared:5 - tmpfs tmpfs rw,size=1k
63 64 0:41 / /data/ds rw,nosuid,nodev shared:23 master:2 - fuse.rclone second rw,user_id=0
64 65 0:40 / /data/ds ro,nosuid,nodev shared:22 - fuse.juicefs JuiceFS:vol ro,user_id=0
65 40 0:39 / /data/ds rw - fuse first rw
66 27 0:50 / /a\040b\011c rw - fusectl none rw
not a line
"""


def test_a_line_is_read_with_all_its_fields() -> None:
    mount = mounts.parse_mountinfo(_MOUNTINFO)[2]
    assert mount == mounts.Mount(
        id=63,
        parent=64,
        device="0:41",
        root="/",
        point="/data/ds",
        options="rw,nosuid,nodev",
        type="fuse.rclone",
        source="second",
        super_options="rw,user_id=0",
    )
    assert mount.connection == 41


def test_escaped_names_are_read_and_the_control_file_system_is_no_client() -> None:
    mount = mounts.parse_mountinfo(_MOUNTINFO)[-1]
    assert mount.point == "/a b\tc"
    assert not mount.is_fuse


def test_a_stack_is_ordered_by_who_lies_on_whom_and_not_by_the_lines() -> None:
    stack = mounts.stack_at("/data/ds", mounts.parse_mountinfo(_MOUNTINFO))
    assert [mount.source for mount in stack] == ["first", "JuiceFS:vol", "second"]
    assert [mount.is_read_only for mount in stack] == [False, True, False]


def test_beneath_is_by_whole_names() -> None:
    points = {mount.point for mount in mounts.beneath("/data", mounts.parse_mountinfo(_MOUNTINFO))}
    assert points == {"/data", "/data/ds"}
    assert not mounts.beneath("/dat", mounts.parse_mountinfo(_MOUNTINFO))


@pytest.mark.parametrize(
    ("options", "wish"),
    [
        ("", mounts.Wish()),
        ("rw,suid,dev,allow_other,user_id=5,blkdev", mounts.Wish()),
        ("ro,fsname=s3:bucket,subtype=rclone", mounts.Wish(source="s3:bucket", subtype="rclone", read_only=True)),
        ("max_read=131072", mounts.Wish(max_read_bytes=131072)),
        ("max_read=1", mounts.Wish(max_read_bytes=4096)),
        ("max_read=99999999999", mounts.Wish(max_read_bytes=1 << 20)),
        ("max_read=-5,max_read=x", mounts.Wish()),
        (r"fsname=a\,suid,subtype=b c", mounts.Wish(source="a__suid", subtype="b_c")),
    ],
)
def test_a_client_may_name_its_mount_and_narrow_it_and_nothing_else(options: str, wish: mounts.Wish) -> None:
    assert mounts.read_wish(options) == wish


def test_a_name_cannot_carry_an_option_or_grow_without_end() -> None:
    assert mounts.clean_name("x,suid\n\\040") == "x_suid__040"
    assert len(mounts.clean_name("x" * 5000)) == 200


def test_a_symbolic_link_on_the_way_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "real" / "sub").mkdir(parents=True)
    (tmp_path / "link").symlink_to("real")
    holder = mounts.open_directory(str(tmp_path))
    try:
        strict = mounts.RESOLVE_BENEATH | mounts.RESOLVE_NO_SYMLINKS
        os.close(mounts.open_directory("real/sub", directory=holder, resolve=strict))
        with pytest.raises(OSError, match="symbolic links") as refused:
            mounts.open_directory("link/sub", directory=holder, resolve=strict)
        assert refused.value.errno == errno.ELOOP
        with pytest.raises(OSError, match="cross-device") as escaped:
            mounts.open_directory("real/../..", directory=holder, resolve=strict)
        assert escaped.value.errno == errno.EXDEV
    finally:
        os.close(holder)


def test_abort_refuses_a_place_that_is_no_fuse_mount(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="no FUSE") as refused:
        mounts.abort(str(tmp_path))
    assert refused.value.errno == errno.EINVAL
