"""The way to a warm answer: it reads the arguments as the command does, or leaves them to it."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wif.cli import warm
from wif.cli.exchange import exchange_command
from wif.cli.warm import cache_directory, cache_key, cache_request, warm_answer
from wif.core.token import read_token
from wif.edges.credential_cache import CredentialCache
from wif.errors import WifError

ROLE = "arn:aws:iam::111122223333:role/app"
PROCESS = ["--format", "credential-process", "--cache", "--role-arn", ROLE]
CLAIMS: dict[str, Any] = {
    "iss": "https://issuer.example",
    "sub": "system:serviceaccount:shop:app",
    "aud": ["sts.amazonaws.com"],
    "exp": 4_000_000_000,
    "kubernetes.io": {
        "namespace": "shop",
        "pod": {"name": "app-0", "uid": "p"},
        "serviceaccount": {"name": "app", "uid": "u"},
    },
}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No wif.yaml in sight."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def jwt(payload: bytes) -> bytes:
    parts = (b'{"alg":"RS256"}', payload, b"signature")
    return b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts)


def token_file(folder: Path, **changes: Any) -> Path:
    path = folder / "token"
    path.write_bytes(jwt(json.dumps(CLAIMS | changes).encode()))
    return path


def test_every_option_of_the_command_is_known_to_the_key_or_named_as_none_of_its_business() -> None:
    command = exchange_command.commands["aws"]
    options = [option for option in command.params if isinstance(option, click.Option)]
    valued = {name for option in options if not option.is_flag for name in option.opts}
    # debugging, and a settings file's name, are the command's own: with them the long way is taken
    assert valued - {"--log-level"} == set(warm._KEYED) | set(warm._UNKEYED)
    assert {name for option in options if option.is_flag for name in option.opts} == {"--cache", "--json"}


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--cache"],
        ["--format", "credential-process"],
        [*PROCESS, "--json"],
        [*PROCESS, "--help"],
        [*PROCESS, "-h"],
        [*PROCESS, "--log-level", "debug"],
        [*PROCESS, "stray"],
        [*PROCESS, "--region"],
        [*PROCESS, "--file", "-"],
        [*PROCESS, "--file", "a", "--token-file", "b"],
        ["--cache", "--format", "env"],
        ["--format", "credential-process", "--cache", "--format", "json"],
    ],
)
def test_what_is_not_a_plain_request_is_left_to_the_command(arguments: list[str]) -> None:
    assert cache_request(arguments, {}) is None
    assert warm_answer(arguments, {}) is None


def test_both_spellings_of_an_option_are_one() -> None:
    one = cache_request([*PROCESS, "--region", "eu-west-1", "--file", "t"], {})
    two = cache_request([*PROCESS, "--file=t", "--region=eu-west-1"], {})
    assert one is not None
    assert two is not None
    assert (one.inputs, one.token_file) == (two.inputs, two.token_file)


def inputs(arguments: list[str], environ: dict[str, str] | None = None) -> tuple[str, ...]:
    request = cache_request([*PROCESS, *arguments], environ or {})
    assert request is not None
    return request.inputs


@pytest.mark.parametrize("option", warm._KEYED)
def test_what_changes_the_answer_changes_the_key(option: str) -> None:
    assert inputs([option, "x"]) != inputs([])
    assert inputs([option, "x"]) != inputs([option, "y"])
    assert inputs([option, "x", option, "y"]) != inputs([option, "x y"])


@pytest.mark.parametrize("variable", warm._VARIABLES)
def test_so_does_every_variable_that_does(variable: str) -> None:
    assert inputs([], {variable: "x"}) != inputs([])
    assert inputs([], {variable: ""}) == inputs([])


@pytest.mark.parametrize("option", [option for option in warm._UNKEYED if option not in ("--format", "--config-file")])
def test_how_it_is_asked_for_does_not(option: str) -> None:
    assert inputs([option, "x"]) == inputs([])


def test_a_settings_file_is_part_of_the_key_and_may_name_the_token(here: Path) -> None:
    bare = cache_request(PROCESS, {"AWS_WEB_IDENTITY_TOKEN_FILE": "t"})
    (here / "wif.yaml").write_text("aws: {region: eu-west-1}")
    found = cache_request(PROCESS, {"AWS_WEB_IDENTITY_TOKEN_FILE": "t"})
    assert bare is not None
    assert found is not None
    assert bare.inputs != found.inputs
    assert (bare.token_file, found.token_file) == ("t", None)
    named = cache_request([*PROCESS, "--file", "t"], {})
    assert named is not None
    assert named.token_file == "t"
    missing = cache_request(PROCESS, {"WIF_CONFIG_FILE": "nowhere", "WIF_TOKEN_FILE": "t"})
    assert missing is not None
    assert missing.token_file is None
    (here / "folder").mkdir()
    odd = cache_request([*PROCESS, "--config-file", "folder"], {})
    assert odd is not None
    assert odd.token_file is None


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"AWS_WEB_IDENTITY_TOKEN_FILE": "c", "WIF_TOKEN_FILE": "b", "WIF_AWS_TOKEN_FILE": "a"}, "a"),
        ({"AWS_WEB_IDENTITY_TOKEN_FILE": "c", "WIF_TOKEN_FILE": "b"}, "b"),
        ({"AWS_WEB_IDENTITY_TOKEN_FILE": "c"}, "c"),
        ({}, None),
    ],
)
def test_the_token_file_is_chosen_as_the_command_does(environ: dict[str, str], expected: str | None) -> None:
    request = cache_request(PROCESS, environ)
    assert request is not None
    assert request.token_file == expected


@pytest.mark.parametrize(
    ("environ", "named", "expected"),
    [
        ({"WIF_CACHE_DIR": "/b", "XDG_RUNTIME_DIR": "/c"}, "/a", "/a"),
        ({"WIF_CACHE_DIR": "/b", "XDG_RUNTIME_DIR": "/c"}, None, "/b"),
        ({"XDG_RUNTIME_DIR": "/run/user/7/"}, None, "/run/user/7/wif"),
    ],
)
def test_where_entries_are(environ: dict[str, str], named: str | None, expected: str) -> None:
    assert cache_directory(environ, named) == expected


def test_without_a_runtime_directory_each_user_has_one() -> None:
    assert cache_directory({"TMPDIR": "/t/"}).startswith("/t/wif-")
    assert cache_directory({"XDG_RUNTIME_DIR": "relative"}).startswith("/tmp/wif-")


def warm_entry(here: Path, **changes: Any) -> dict[str, str]:
    """Put an answer for the token of these claims; the environment of the request."""
    environ = {"WIF_CACHE_DIR": str(here / "cache"), "WIF_TOKEN_FILE": str(token_file(here, **changes))}
    request = cache_request(PROCESS, environ)
    assert request is not None
    token = read_token((here / "token").read_bytes(), origin="token", now=0)
    key = cache_key(
        request,
        issuer=token.issuer,
        subject=token.subject,
        uid=token.service_account_uid or "",
        pod=token.pod or "",
    )
    with CredentialCache(str(here / "cache"), create=True) as cache:
        now = 1_800_000_000.0
        cache.write(key, {"Version": 1}, now=now, expires_at=now + 3600, lifetime_seconds=3600)
    return environ


@pytest.fixture
def still(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock of the entries."""
    monkeypatch.setattr("time.time", lambda: 1_800_000_000.0)


@pytest.mark.usefixtures("still")
def test_a_warm_answer_is_found_for_the_same_token_and_no_other(here: Path) -> None:
    environ = warm_entry(here)
    assert warm_answer(PROCESS, environ) == '{"Version": 1}'
    changes: tuple[dict[str, Any], ...] = (
        {"iss": "https://other.example"},
        {"sub": "system:serviceaccount:shop:other"},
        {"kubernetes.io": {}},
        {"kubernetes.io": CLAIMS["kubernetes.io"] | {"serviceaccount": {"uid": "v"}}},
        {"kubernetes.io": CLAIMS["kubernetes.io"] | {"pod": {"name": "app-1"}}},
    )
    for change in changes:
        token_file(here, **change)
        assert warm_answer(PROCESS, environ) is None, change
    token_file(here, exp=CLAIMS["exp"] + 1, jti="another")
    assert warm_answer(PROCESS, environ) is not None, "a rotated token of the same pod"


@pytest.mark.usefixtures("still")
def test_a_cache_that_is_none_is_left_to_the_command(here: Path) -> None:
    environ = warm_entry(here)
    (here / "cache").chmod(0o755)
    assert warm_answer(PROCESS, environ) is None
    assert warm_answer(PROCESS, environ | {"WIF_CACHE_DIR": str(here / "nowhere")}) is None
    assert warm_answer(PROCESS, {}) is None


BAD = {
    "empty": b"",
    "two parts": b"a.b",
    "no payload": b"a..c",
    "not base64": b"a.!!!.c",
    "not JSON": jwt(b"{"),
    "not an object": jwt(b"[1]"),
    "a member twice": jwt(b'{"iss":"a","sub":"b","sub":"c"}'),
    "no issuer": jwt(b'{"sub":"b"}'),
    "an empty subject": jwt(b'{"iss":"a","sub":""}'),
    "an issuer of another type": jwt(b'{"iss":1,"sub":"b"}'),
    "too large": b"a." + b"b" * 30_000 + b".c",
    "deep": jwt(b"[" * 10_000),
    "binary": bytes(range(256)),
}


@pytest.mark.parametrize("data", BAD.values(), ids=BAD.keys())
def test_a_token_that_the_library_would_refuse_has_no_warm_answer(here: Path, data: bytes) -> None:
    path = here / "token"
    path.write_bytes(data)
    assert warm._identity(str(path)) is None
    assert warm._identity(str(here)) is None
    assert warm._identity(str(here / "nowhere")) is None
    assert warm._identity("a\0b") is None


VALUES = st.none() | st.booleans() | st.integers() | st.text(max_size=6) | st.lists(st.text(max_size=3), max_size=2)
OBJECTS = st.dictionaries(
    st.sampled_from(["serviceaccount", "pod", "namespace"]),
    VALUES
    | st.fixed_dictionaries(
        {
            "name": VALUES,
            "uid": VALUES,
        }
    ),
)


@given(
    st.fixed_dictionaries(
        {},
        optional={"iss": VALUES, "sub": VALUES, "aud": VALUES, "exp": st.just(4e9), "kubernetes.io": OBJECTS | VALUES},
    )
)
def test_both_readers_of_a_token_see_the_same_identity(claims: dict[str, Any]) -> None:
    raw = jwt(json.dumps(claims).encode())
    path = Path("token")
    path.write_bytes(raw)
    try:
        token = read_token(raw, origin="token", now=0)
    except WifError:
        return  # the short way may find an entry at most for what it can read, and none was written for this token
    assert warm._identity(str(path)) == {
        "issuer": token.issuer,
        "subject": token.subject,
        "uid": token.service_account_uid or "",
        "pod": token.pod or "",
    }
