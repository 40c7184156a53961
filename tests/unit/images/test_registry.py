"""The distribution protocol, against a make-believe registry: tokens, retries, resumed downloads, redirects, refusals."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import pytest
from anyio import CapacityLimiter
from tests.images import digest

from headrace.errors import Denied, InvalidSpec, NotFound, Unavailable
from headrace.node.images import registry
from headrace.node.images.challenges import Challenge, read_challenges
from headrace.node.images.credentials import Credential
from headrace.node.images.downloads import download
from headrace.node.images.manifest import Descriptor
from headrace.node.images.registries import Endpoint
from headrace.node.images.registry import Repository

pytestmark = pytest.mark.anyio
BLOB = bytes(range(256)) * 5000
PLACE = Endpoint("https://reg.corp", "team/x", "reg.corp/team/x")
Answer = Callable[[httpx2.Request], httpx2.Response]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_PAUSES_S", (0.0, 0.0, 0.0))
    monkeypatch.setattr("headrace.node.images.downloads._FIRST_PAUSE_S", 0.0)


@asynccontextmanager
async def repository(answer: Answer, credential: Credential | None = None) -> AsyncIterator[Repository]:
    def streamed(request: httpx2.Request) -> httpx2.Response:
        """Answer as a server does: nothing of the content has been read yet."""
        given = answer(request)
        return (
            httpx2.Response(given.status_code, headers=given.headers, content=_once(given))
            if given.is_closed
            else given
        )

    async with httpx2.AsyncClient(transport=httpx2.MockTransport(streamed), follow_redirects=True) as http:
        yield Repository(http, PLACE, credential)


async def _once(given: httpx2.Response) -> AsyncIterator[bytes]:
    yield given.content


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        (['Bearer realm="https://a/t",service="s, t",scope="repository:x:pull"'], [("bearer", "s, t")]),
        (['Basic realm="x"'], [("basic", "")]),
        (['Basic realm="x", Bearer realm=https://t , service="s"'], [("basic", ""), ("bearer", "s")]),
        (['Basic realm="x"', 'bearer service="a\\"b"'], [("basic", ""), ("bearer", 'a"b')]),
        (["Negotiate"], [("negotiate", "")]),
        (["", '"'], []),
    ],
)
def test_challenges_are_read(headers: list[str], found: list[tuple[str, str]]) -> None:
    read: list[Challenge] = read_challenges(headers)
    assert [(one.scheme, one.parameters.get("service", "")) for one in read] == found


async def test_a_token_is_fetched_with_the_credential_and_used(tmp_path: Path) -> None:
    asked = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked.append((request.url.host, request.headers.get("authorization", "")))
        if request.url.host == "auth.corp":
            assert dict(request.url.params) == {"service": "reg", "scope": "repository:team/x:pull"}
            return httpx2.Response(200, json={"access_token": "T1"})
        if request.headers.get("authorization") != "Bearer T1":
            where = 'Bearer realm="https://auth.corp/token",service="reg",scope="repository:team/x:pull"'
            return httpx2.Response(401, headers={"WWW-Authenticate": where})
        return httpx2.Response(200, content=BLOB)

    async with repository(answer, Credential("me", "hush")) as one:
        assert await one.small_blob(digest(BLOB), len(BLOB)) == BLOB
        assert await one.small_blob(digest(BLOB), len(BLOB)) == BLOB
    basic = "Basic " + base64.b64encode(b"me:hush").decode()
    assert asked == [
        ("reg.corp", ""),
        ("auth.corp", basic),
        ("reg.corp", "Bearer T1"),
        ("reg.corp", "Bearer T1"),
    ]


async def test_a_token_that_has_ended_is_renewed_once() -> None:
    tokens = iter(["old", "new"])

    def answer(request: httpx2.Request) -> httpx2.Response:
        if request.url.path == "/token":
            return httpx2.Response(200, json={"token": next(tokens)})
        if request.headers.get("authorization") != "Bearer new":
            return httpx2.Response(401, headers={"WWW-Authenticate": 'Bearer realm="https://reg.corp/token"'})
        return httpx2.Response(200, content=BLOB)

    async with repository(answer) as one:
        with pytest.raises(Denied):
            await one.small_blob(digest(BLOB), len(BLOB))
        assert await one.small_blob(digest(BLOB), len(BLOB)) == BLOB


@pytest.mark.parametrize(
    ("challenge", "token_status", "why"),
    [
        ('Bearer realm="http://auth.corp/token"', 200, "over plain http"),
        ('Bearer realm="https://auth.corp/token"', 401, "lets user me not pull"),
        ('Bearer realm=""', 200, "does not say where"),
        ('Basic realm="x"', 200, "does not let user 'me' pull team/x"),
    ],
)
async def test_whom_a_registry_does_not_know(challenge: str, token_status: int, why: str) -> None:
    def answer(request: httpx2.Request) -> httpx2.Response:
        if request.url.host == "auth.corp":
            return httpx2.Response(token_status, json={"token": "t"})
        return httpx2.Response(401, headers={"WWW-Authenticate": challenge})

    async with repository(answer, Credential("me", "hush")) as one:
        with pytest.raises(Denied, match=why) as caught:
            await one.digest_of("1")
    assert "hush" not in str(caught.value)


async def test_a_redirect_does_not_take_the_credential_along() -> None:
    seen = {}

    def answer(request: httpx2.Request) -> httpx2.Response:
        seen[request.url.host] = request.headers.get("authorization", "")
        if request.url.host == "reg.corp" and not seen["reg.corp"]:
            return httpx2.Response(401, headers={"WWW-Authenticate": "Basic"})
        if request.url.host == "reg.corp":
            return httpx2.Response(307, headers={"Location": "https://store.example/blob?signed=1"})
        return httpx2.Response(200, content=BLOB)

    async with repository(answer, Credential("me", "hush")) as one:
        assert await one.small_blob(digest(BLOB), len(BLOB)) == BLOB
    assert seen["store.example"] == ""
    assert seen["reg.corp"].startswith("Basic ")


async def test_busy_registries_are_asked_again() -> None:
    answers = iter([503, 429, 200])

    def answer(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(next(answers), headers={"Retry-After": "0", "Docker-Content-Digest": digest(b"x")})

    async with repository(answer) as one:
        assert await one.digest_of("1") == digest(b"x")


@pytest.mark.parametrize(
    ("status", "body", "error", "why"),
    [
        (
            404,
            '{"errors":[{"code":"MANIFEST_UNKNOWN","message":"unknown tag"}]}',
            NotFound,
            r"has no manifest 1 \(unknown tag\)",
        ),
        (401, "", Denied, "without a pull secret"),
        (403, "<html>", Denied, "without a pull secret"),
        (500, "", Unavailable, "answered 500"),
    ],
)
async def test_refusals_say_what_to_do(status: int, body: str, error: type[Exception], why: str) -> None:
    async with repository(lambda _: httpx2.Response(status, text=body)) as one:
        with pytest.raises(error, match=why):
            await one.manifest("1")


async def test_registries_without_head_are_asked_for_the_whole() -> None:
    def answer(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(405) if request.method == "HEAD" else httpx2.Response(200, content=b"{}")

    async with repository(answer) as one:
        assert await one.digest_of("1") == digest(b"{}")


async def test_what_is_too_large_or_other_than_its_digest_is_refused() -> None:
    async with repository(lambda _: httpx2.Response(200, content=BLOB)) as one:
        with pytest.raises(InvalidSpec, match="more than 10 bytes"):
            await one.small_blob(digest(BLOB), 10)
        with pytest.raises(InvalidSpec, match="other content than"):
            await one.small_blob(digest(b"else"), len(BLOB))


# -- downloads ---------------------------------------------------------------------------------------------------------


class Flaky:
    """A registry that breaks off after `most` bytes, and knows ranges or not."""

    def __init__(self, content: bytes, most: int, *, ranges: bool = True, dies_after: int = 1000) -> None:
        self.content, self.most, self.ranges, self.dies_after = content, most, ranges, dies_after
        self.asked: list[str] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        self.asked.append(request.headers.get("range", ""))
        if len(self.asked) > self.dies_after:
            raise httpx2.ConnectError("gone")
        offset = int(self.asked[-1].removeprefix("bytes=").rstrip("-") or 0) if self.ranges else 0
        most = self.most if len(self.asked) < 3 or self.ranges else len(self.content)

        async def stream() -> AsyncIterator[bytes]:
            for at in range(offset, min(offset + most, len(self.content)), 1000):
                yield self.content[at : min(at + 1000, offset + most)]
            if offset + most < len(self.content):
                raise httpx2.ReadError("broke")

        return httpx2.Response(206 if self.ranges and offset else 200, content=stream())


async def fetch(answer: Answer, content: bytes, place: Path, *, size: int | None = None) -> bytes:
    blob = Descriptor(digest(content), len(content) if size is None else size)
    async with repository(answer) as one:
        await download(one, blob, place / "blob", CapacityLimiter(1))
    return (place / "blob").read_bytes()


async def test_a_download_goes_on_where_it_broke(tmp_path: Path) -> None:
    flaky = Flaky(BLOB, 500_000)
    assert await fetch(flaky, BLOB, tmp_path) == BLOB
    assert flaky.asked == ["", "bytes=500000-", "bytes=1000000-"]


async def test_without_ranges_it_begins_anew(tmp_path: Path) -> None:
    assert await fetch(Flaky(BLOB, 500_000, ranges=False), BLOB, tmp_path) == BLOB


async def test_a_registry_that_never_sends_more_is_given_up(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="cannot be reached: gone"):
        await fetch(Flaky(BLOB, 500_000, dies_after=1), BLOB, tmp_path)


@pytest.mark.parametrize(
    ("size", "why"), [(None, "that are not sha256:"), (10, "more than the 10 bytes"), (len(BLOB) + 1, "ended after")]
)
async def test_other_content_than_the_manifest_names_is_refused(tmp_path: Path, size: int | None, why: str) -> None:
    sent = BLOB[:-1] + b"!" if size is None else BLOB
    with pytest.raises((InvalidSpec, Unavailable), match=why):
        await fetch(lambda _: httpx2.Response(200, content=sent), BLOB, tmp_path, size=size)
