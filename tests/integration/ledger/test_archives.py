"""Code archives come back as they were, from a directory, from SQLite and from PostgreSQL."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.postgres import Postgres

from headrace.api.archives import PART_BYTES, Archives, DatabaseArchives, DirectoryArchives
from headrace.api.code import CodeStore
from headrace.errors import InvalidSpec, NotFound
from headrace.ledger.database import Database, file_url

KEY = b"k" * 32


@pytest.fixture(params=["directory", "sqlite", "postgresql"])
def archives(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Archives]:
    if request.param == "directory":
        yield DirectoryArchives(tmp_path / "code")
        return
    if request.param == "sqlite":
        database = Database(file_url(tmp_path / "ledger.db"))
        yield DatabaseArchives(database)
        database.close()
        return
    server: Postgres = request.getfixturevalue("server")
    with server.database() as url:
        database = Database(url)
        yield DatabaseArchives(database)
        database.close()


def store(archives: Archives) -> CodeStore:
    return CodeStore(
        archives, KEY, "https://headrace.svc/", python="python3", image="headrace:1", authority=lambda: "PEM"
    )


@pytest.mark.parametrize("size", [0, 1, PART_BYTES, 2 * PART_BYTES + 7])
def test_what_was_put_is_read_whole(archives: Archives, size: int) -> None:
    content = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    digest, code = hashlib.sha256(content).hexdigest(), store(archives)
    assert not code.has(digest)
    code.put(digest, content)
    code.put(digest, content)
    assert code.has(digest)
    assert b"".join(code.open(digest, code.token(digest))) == content


def test_a_wrong_digest_is_refused_and_not_stored(archives: Archives) -> None:
    code, digest = store(archives), hashlib.sha256(b"other").hexdigest()
    with pytest.raises(InvalidSpec, match="has digest"):
        code.put(digest, b"content")
    assert not code.has(digest)


@pytest.mark.parametrize("token", ["", "wrong", "☃"])
def test_without_its_token_an_archive_is_not_there(archives: Archives, token: str) -> None:
    code, digest = store(archives), hashlib.sha256(b"secret").hexdigest()
    code.put(digest, b"secret")
    with pytest.raises(NotFound):
        code.open(digest, token)


def test_a_digest_is_no_path(archives: Archives) -> None:
    with pytest.raises(InvalidSpec, match="no SHA-256"):
        store(archives).has("../../etc/passwd")


def test_a_worker_is_told_how_to_fetch(archives: Archives) -> None:
    digest = hashlib.sha256(b"x").hexdigest()
    source = store(archives).source("vision", f"sha256:{digest}")
    assert source.url.startswith(f"https://headrace.svc/code/{digest}?token=")
    assert (source.image, source.authority, source.digest) == ("headrace:1", "PEM", f"sha256:{digest}")


def test_the_same_archive_may_be_put_by_several_at_once(archives: Archives) -> None:
    content = b"y" * (PART_BYTES + 1)
    digest, code, failures = hashlib.sha256(content).hexdigest(), store(archives), []

    def put() -> None:
        try:
            code.put(digest, content)
        except BaseException as error:
            failures.append(error)
            raise

    threads = [threading.Thread(target=put) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert b"".join(code.open(digest, code.token(digest))) == content
