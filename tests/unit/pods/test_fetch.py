"""Fetching code in a worker: what is unpacked, and what is refused in a sentence."""

from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path

import pytest

from headrace.pods import fetch


def archive(*members: tuple[str, str, bytes]) -> bytes:
    """Return a tar of `(name, type, content or link target)`."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, kind, content in members:
            info = tarfile.TarInfo(name)
            info.mode = 0o4755
            if kind == "file":
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
            else:
                info.type = {"link": tarfile.SYMTYPE, "hard": tarfile.LNKTYPE, "device": tarfile.CHRTYPE}[kind]
                info.linkname = content.decode()
                tar.addfile(info)
    return buffer.getvalue()


def run(tmp_path: Path, content: bytes, digest: str = "") -> tuple[int, Path]:
    source, target = tmp_path / "archive", tmp_path / "out"
    source.write_bytes(content)
    target.mkdir()
    wanted = digest or f"sha256:{hashlib.sha256(content).hexdigest()}"
    return fetch.main(source.as_uri(), wanted, str(target)), target


def test_files_and_links_inside_are_unpacked_without_special_modes(tmp_path: Path) -> None:
    code, target = run(tmp_path, archive(("pkg/a.py", "file", b"x"), ("b.py", "link", b"pkg/a.py")))
    assert code == 0
    assert (target / "b.py").read_bytes() == b"x"
    assert (target / "pkg" / "a.py").stat().st_mode & 0o7777 == 0o755


def test_another_archive_than_was_asked_for_is_not_unpacked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, target = run(tmp_path, archive(("a", "file", b"x")), "sha256:" + "0" * 64)
    assert code == 1
    assert list(target.iterdir()) == []
    assert "was not unpacked" in capsys.readouterr().err


@pytest.mark.parametrize(
    "member",
    [
        ("../evil", "file", b"x"),
        ("/etc/evil", "file", b"x"),
        ("a", "link", b"../../etc/passwd"),
        ("a", "link", b"/etc/passwd"),
        ("a", "hard", b"../x"),
        ("a", "device", b""),
    ],
)
def test_what_leaves_the_directory_is_refused(
    member: tuple[str, str, bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, target = run(tmp_path, archive(("fine", "file", b"x"), member))
    assert code == 1
    assert list(target.iterdir()) == [], "nothing of it is unpacked"
    assert "would leave the directory or is no file" in capsys.readouterr().err
