"""Token sources: what they give, and what they refuse with which words."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wif.core.freshness import MAX_SUBJECT_TOKEN_BYTES
from wif.core.token import TokenSource
from wif.edges.sources import CallableSource, JsonFieldFile, ProjectedFile, TokenRequestSource, as_source
from wif.errors import ConfigurationError, TokenError, UnavailableError, WifError

TOKEN = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhIn0.c2ln"


def refused(code: str, words: str | None = None) -> pytest.RaisesExc[WifError]:
    return pytest.RaisesExc(WifError, match=words, check=lambda error: error.code == code)


# -- a projected file -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [TOKEN, TOKEN + "\n", f" \r\n{TOKEN}\t\n"])
def test_white_space_around_a_token_is_stripped(tmp_path: Path, text: str) -> None:
    (tmp_path / "token").write_text(text)
    source = ProjectedFile(tmp_path / "token")
    assert source.read() == TOKEN
    assert source.origin == str(tmp_path / "token")
    assert isinstance(source, TokenSource)


def test_the_file_is_read_anew_each_time(tmp_path: Path) -> None:
    path = tmp_path / "token"
    source = ProjectedFile(path)
    for text in ("a.b.c", "d.e.f"):
        path.write_text(text)
        assert source.read() == text


def fifo(path: Path) -> None:
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("make", "code", "words"),
    [
        (lambda path: None, "token-missing", "is not there"),
        (lambda path: path.symlink_to("nowhere"), "token-missing", "is not there"),
        (lambda path: path.write_bytes(b""), "token-empty", "is empty"),
        (lambda path: path.write_bytes(b" \n\t"), "token-empty", "is empty"),
        (lambda path: path.write_bytes(b"\xff\xfe\x00a"), "token-malformed", "binary"),
        (lambda path: path.write_bytes(b"x" * (MAX_SUBJECT_TOKEN_BYTES + 1025)), "token-too-large", "20000"),
        (Path.mkdir, "token-unreadable", "directory"),
        (fifo, "token-unreadable", "no regular file"),
        (lambda path: path.symlink_to("/dev/zero"), "token-unreadable", "no regular file"),
        (lambda path: path.symlink_to(path), "token-unreadable", "cannot be read"),
    ],
    ids=["missing", "dangling", "empty", "blank", "binary", "huge", "directory", "fifo", "device", "loop"],
)
def test_a_file_that_holds_no_token_is_refused_by_name(
    tmp_path: Path, make: Callable[[Path], object], code: str, words: str
) -> None:
    path = tmp_path / "token"
    make(path)
    started = time.monotonic()
    with refused(code, words) as caught:
        ProjectedFile(path).read()
    assert str(path) in caught.value.message
    assert time.monotonic() - started < 1


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root reads everything")
def test_a_file_without_the_right_to_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(TOKEN)
    path.chmod(0)
    with refused("token-unreadable", "permission"):
        ProjectedFile(path).read()


def test_trouble_that_is_not_the_file_s_passes(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource", reason="no limit of open files on this system")
    path = tmp_path / "token"
    path.write_text(TOKEN)
    source = ProjectedFile(path)
    assert source.read() == TOKEN  # whatever is loaded on the way, is loaded
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        source.read()
    except TokenError as error:
        caught = error
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert (caught.code, caught.retryable) == ("token-unreadable", True)
    assert "Too many open files" in caught.message
    with refused("token-unreadable") as other:
        ProjectedFile(tmp_path).read()
    assert not other.value.retryable


def test_a_path_with_a_zero_byte_is_refused() -> None:
    with refused("token-unreadable"):
        ProjectedFile("a\x00b").read()


def test_no_error_of_a_file_shows_what_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_bytes(b"secret-secret\xff")
    with pytest.raises(TokenError) as caught:
        ProjectedFile(path).read()
    assert "secret-secret" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


# -- a member of a JSON file ------------------------------------------------------------------------------------------


def test_a_member_of_a_json_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "token.json"
    path.write_text(json.dumps({"access_token": f" {TOKEN}\n", "other": 1}))
    source = JsonFieldFile(path, "access_token")
    assert source.read() == TOKEN
    assert source.origin == f"{path} (access_token)"


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "token-malformed"),
        (TOKEN.encode(), "token-malformed"),
        (b'"text"', "token-malformed"),
        (b"{}", "token-malformed"),
        (b'{"t": 1}', "token-malformed"),
        (b'{"t": null}', "token-malformed"),
        (b'{"t": ""}', "token-empty"),
        (b'{"t": "\xc3\xa9"}', "token-malformed"),
        (b'{"t": ' + b"[" * 15_000 + b"]" * 15_000 + b"}", "token-malformed"),
        (b"\xff\xfe", "token-malformed"),
        (b" " * 100_000, "token-too-large"),
    ],
)
def test_a_json_file_without_the_member_is_refused(tmp_path: Path, content: bytes, code: str) -> None:
    path = tmp_path / "token.json"
    path.write_bytes(content)
    with refused(code) as caught:
        JsonFieldFile(path, "t").read()
    assert str(path) in caught.value.message


@given(st.binary(max_size=400))
def test_any_bytes_are_a_text_or_an_error(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any"
    path.write_bytes(content)
    for source in (ProjectedFile(path), JsonFieldFile(path, "t")):
        with contextlib.suppress(TokenError):
            assert source.read().isascii()


# -- a callable --------------------------------------------------------------------------------------------------------


def test_a_callable_gives_text_or_bytes_anew_each_time() -> None:
    given_back: list[str | bytes] = ["a.b.c", b" d.e.f\n"]
    source = CallableSource(lambda: given_back.pop(0), name="vault")
    assert [source.read(), source.read()] == ["a.b.c", "d.e.f"]
    assert source.origin == "vault"


def test_a_callables_own_name_is_its_origin() -> None:
    def from_vault() -> str:
        return TOKEN

    assert "from_vault" in CallableSource(from_vault).origin
    assert CallableSource(dict.fromkeys).origin  # type: ignore[arg-type]  # any callable has a name


def test_what_a_callable_raises_is_chained_and_not_shown() -> None:
    def broken() -> str:
        raise RuntimeError(f"vault said {TOKEN}")

    with refused("token-source-failed", "RuntimeError") as caught:
        CallableSource(broken).read()
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert TOKEN not in str(caught.value)


def test_an_error_of_this_package_comes_through_a_callable() -> None:
    def refusing() -> str:
        raise UnavailableError("not now", code="cluster-unavailable")

    with refused("cluster-unavailable"):
        CallableSource(refusing).read()


@pytest.mark.parametrize("value", [None, 1, ["a"], object()])
def test_a_callable_that_returns_something_else_is_refused(value: object) -> None:
    with refused("token-source-failed", "expected str or bytes"):
        CallableSource(lambda: value).read()  # type: ignore[arg-type,return-value]  # the error under test


def test_a_callable_that_returns_binary_data_is_refused() -> None:
    with refused("token-malformed"):
        CallableSource(lambda: b"\xff").read()


# -- what callers write ---------------------------------------------------------------------------------------------


def test_a_source_is_made_from_what_callers_write(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(TOKEN)
    own = ProjectedFile(path)
    assert as_source(own) is own
    assert as_source(path).read() == TOKEN
    assert as_source(str(path)).read() == TOKEN
    assert as_source(lambda: TOKEN).read() == TOKEN

    class Own:
        origin = "own"

        def read(self) -> str:
            return TOKEN

    assert as_source(Own()).origin == "own"


@pytest.mark.parametrize("value", [None, 1, b"/a/path", {}])
def test_what_is_no_source_is_refused(value: object) -> None:
    with refused("config-invalid", "source="):
        as_source(value)  # type: ignore[arg-type]  # the error under test


# -- TokenRequest: what is checked before anything is asked ----------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        {"namespace": "../kube-system", "service_account": "app"},
        {"namespace": "", "service_account": "app"},
        {"namespace": "a", "service_account": "app/token?x="},
        {"namespace": "a", "service_account": "App"},
        {"namespace": "a", "service_account": "app", "expiration_seconds": 599},
        {"namespace": "a", "service_account": "app", "expiration_seconds": (1 << 32) + 1},
        {"namespace": "a", "service_account": "app", "audience": ["a", ""]},
    ],
)
def test_a_token_request_that_cannot_be_right_is_refused_at_once(arguments: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        TokenRequestSource(**arguments)  # type: ignore[arg-type]  # the errors under test
    assert caught.value.code == "config-invalid"


def test_a_token_request_names_its_account() -> None:
    source = TokenRequestSource(namespace="prod", service_account="app", audience="sts.amazonaws.com")
    assert source.origin == "TokenRequest prod/app"
    assert isinstance(source, TokenSource)


def test_sources_are_read_from_many_threads(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(TOKEN)
    source = ProjectedFile(tmp_path / "token")
    seen: list[str] = []
    threads = [threading.Thread(target=lambda: seen.append(source.read())) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [TOKEN] * 20
