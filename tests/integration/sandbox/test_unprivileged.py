"""Root becomes nobody, and what nobody needs stays in reach; nothing else does."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from headrace.sandbox import unprivileged
from headrace.sandbox.testing import mounts_of_machine

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="ONLY ROOT CAN STOP BEING ROOT")


def as_nobody(*options: str, script: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "headrace.sandbox.unprivileged", *options, "--", "sh", "-c", script]
    return subprocess.run(command, capture_output=True, text=True, timeout=20)


@pytest.mark.root
@needs_root
def test_nothing_of_root_is_left() -> None:
    seen = as_nobody(script="cat /proc/self/status; cat /etc/shadow; pwd; echo $USER; echo $$ > /proc/$$/oom_score_adj")
    fields = dict(line.split(":\t", 1) for line in seen.stdout.splitlines() if ":\t" in line)
    assert fields["Uid"].split() == fields["Gid"].split() == ["65534"] * 4
    assert fields["Groups"].strip() == ""
    for name in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
        assert int(fields[name], 16) == 0
    assert "/etc/shadow: Permission denied" in seen.stderr
    assert seen.stdout.endswith("/\nnobody\n")


@pytest.mark.root
@needs_root
def test_this_python_works_wherever_it_is() -> None:
    """Such as below a /root of mode 0700."""
    seen = as_nobody(script=f"{sys.executable} -c 'import headrace.sandbox.world, sys; print(sys.prefix)'")
    assert seen.stdout.strip() == sys.prefix, seen.stderr


@pytest.mark.root
@needs_root
def test_only_what_was_asked_for_is_behind_a_closed_parent(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    for path in ("wanted/deep/file", "other/file", "single"):
        (closed / path).parent.mkdir(parents=True, exist_ok=True)
        (closed / path).write_text(path)
    own = closed / "mine"
    closed.chmod(0o700)
    script = f"cd {closed}; find . -type f; touch {own}/made; touch wanted/x; stat -c %u {own}/made"
    seen = as_nobody("--reach", f"{closed}/wanted", "--reach", f"{closed}/single", "--own", str(own), script=script)
    assert sorted(seen.stdout.split()) == ["./single", "./wanted/deep/file", "65534"]
    assert "wanted/x" in seen.stderr
    assert (own / "made").stat().st_uid == 65534
    assert own.stat().st_mode & 0o777 == 0o700
    assert mounts_of_machine(str(tmp_path)) == []


@pytest.mark.root
@needs_root
def test_what_cannot_be_reached_is_said(tmp_path: Path) -> None:
    (tmp_path / "secret").touch(mode=0o600)
    seen = as_nobody("--reach", str(tmp_path / "secret"), script="true")
    assert seen.returncode == 1
    assert f"{tmp_path}/secret cannot be read by an ordinary user" in seen.stderr


@pytest.mark.root
@needs_root
def test_fuse_is_usable_and_the_machines_device_unchanged() -> None:
    if not os.path.exists("/dev/fuse"):
        pytest.skip("NO /dev/fuse ON THIS MACHINE")
    before = os.stat("/dev/fuse")
    seen = as_nobody(script="exec 3<>/dev/fuse && echo usable")
    assert seen.stdout == "usable\n", seen.stderr
    after = os.stat("/dev/fuse")
    assert (before.st_mode, before.st_ino) == (after.st_mode, after.st_ino)


def test_closed_parents(tmp_path: Path) -> None:
    place = tmp_path / "a" / "b" / "c"
    place.mkdir(parents=True)
    for path in (tmp_path, tmp_path / "a"):
        path.chmod(0o755)
    outside = unprivileged.closed_parent(str(tmp_path))
    if not outside:
        assert unprivileged.closed_parent(str(place)) == ""
        (tmp_path / "a").chmod(0o700)
        if os.geteuid() != unprivileged.NOBODY:
            assert unprivileged.closed_parent(str(place)) == str(tmp_path / "a")
    else:
        assert unprivileged.closed_parent(str(place)) == outside, "the uppermost"


def test_nothing_happens_to_an_ordinary_user() -> None:
    if os.geteuid() == 0:
        pytest.skip("this is root")
    unprivileged.become(own=["/no/such/place"])
    assert not os.path.exists("/no/such/place")
