"""``wif keys`` as a user types it, against a real API server: words, JSON and exit status."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import click
import jsonschema
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.integration.shell import leaves
from wif.cli.keys import keys_command
from wif.cli.root import run
from wif.core.public_keys import IssuerKey, key_set_bytes, observe_key_set
from wif.emulator.apiserver import ApiServer

pytestmark = [pytest.mark.integration, pytest.mark.one_python]

ROOT = Path(__file__).parents[2]
SCHEMAS = ROOT / "docs" / "reference" / "schemas"
LIST_BOTH = "    - --service-account-key-file=OLD.pub\n    - --service-account-key-file=NEW.pub\n"


class Said(NamedTuple):
    status: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        """What ``--json`` printed, which is one object and fits the schema."""
        found: dict[str, Any] = json.loads(self.out)
        name = "keys" if "keys" in found else "keys-plan" if "steps" in found else "error"
        schema = json.loads((SCHEMAS / f"{name}.json").read_text())
        jsonschema.validate(found, schema, cls=jsonschema.Draft202012Validator)
        return found

    @property
    def phases(self) -> dict[str, str]:
        return {key["kid"]: key["phase"] for key in self.document["keys"]}


Keys = Callable[..., Said]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path


@pytest.fixture
def keys(api_server: ApiServer, folder: Path, capsys: pytest.CaptureFixture[str]) -> Keys:
    """Run ``wif keys``; the issuer has no public address, and its state is a file."""
    options = [
        *("--kubeconfig", str(api_server.kubeconfig), "--api-server", api_server.url, "--no-verify"),
        *("--to", f"file://{folder}/site", "--state", f"{folder}/state.json", "--allow-private"),
        *("--service-account", "keys/publisher", "--cache-time", "2s", "--skew", "0"),
    ]

    def keys(command: str, *words: str, bare: bool = False) -> Said:
        capsys.readouterr()
        status = run(["keys", command, *([] if bare else options), *words])
        return Said(status, *capsys.readouterr())

    if api_server.request("GET", "/api/v1/namespaces/keys")[0] == 404:
        api_server.create_namespace("keys")
        api_server.create_service_account("keys", "publisher")
    return keys


def make_key(folder: Path, name: str = "new.pub") -> IssuerKey:
    public = rsa.generate_private_key(public_exponent=65537, key_size=2048).public_key()
    (folder / name).write_bytes(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return IssuerKey.from_public_key(public)


def published(folder: Path) -> list[str]:
    body = (folder / "site/openid/v1/jwks").read_bytes()
    return [str(entry.key_id) for entry in observe_key_set(body).entries]


def test_a_staged_key_from_the_first_publication_to_its_end(keys: Keys, folder: Path, api_server: ApiServer) -> None:
    begun = keys("advance", "--json")
    assert begun.status == 0
    [signing] = published(folder)
    assert begun.phases == {signing: "signing"}
    assert begun.document["api_servers"][0]["signer"] == signing
    assert begun.document["api_servers"][0]["longest_token_seconds"] == 0
    assert (begun.document["public_known"], begun.document["public_kids"]) == (False, None)

    new = make_key(folder).key_id
    staged = keys("stage", "--public-key", "new.pub")
    assert staged.status == 0
    assert f"done: the key {new} is staged" in staged.out
    assert LIST_BOTH + "    - --service-account-signing-key-file=OLD.key\n" in staged.out
    assert sorted(published(folder)) == sorted([signing, new])
    assert keys("status", "--json").phases == {signing: "signing", new: "verified"}

    table = keys("status").out
    lines = {line.split()[0]: line for line in table.splitlines() if line}
    assert lines[signing].split()[1] == "signing"
    assert lines[new].split()[1] == "verified"
    assert "API server" in lines[new]
    assert "#" in lines[signing[:12]]
    assert "| now" not in table

    refused = keys("retire", signing)
    assert refused.status == 1
    assert "cannot be retired now" in refused.err
    assert keys("retire", signing, "--json").document["error"]["code"] == "unsafe-step"
    assert keys("retire", "--json").document["error"]["code"] == "unsafe-step"

    aborted = keys("abort", new, "--json")
    assert aborted.status == 0
    assert aborted.phases == {signing: "signing", new: "removed"}
    assert published(folder) == [signing]
    assert keys("stage", "--public-key", "new.pub").status == 1
    assert keys("forget", new, "--json").phases == {signing: "signing"}


def test_the_file_of_a_new_key_does_not_keep_the_api_servers_from_being_asked(
    keys: Keys, folder: Path, api_server: ApiServer
) -> None:
    new = make_key(folder).key_id
    words = ["--to", f"file://{folder}/site", "--state", "state.json", "--allow-private", "--no-verify"]
    done = subprocess.run(  # a process of its own: the kubernetes package reads the variable when it is imported
        [sys.executable, "-m", "wif", "keys", "stage", "--public-key", "new.pub", *words, "--json"],
        cwd=folder,
        env=os.environ | {"KUBECONFIG": str(api_server.kubeconfig), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    staged = Said(done.returncode, done.stdout, done.stderr)
    assert staged.status == 0, staged.err
    assert [new in server["kids"] for server in staged.document["api_servers"]] == [False]
    assert len(published(folder)) == 2


def test_a_removal_needs_yes_and_says_what_follows(keys: Keys, folder: Path) -> None:
    keys("advance")
    new = make_key(folder).key_id
    keys("stage", "--public-key", "new.pub")
    asked = keys("remove", new)
    assert asked.status == 2
    assert "consequence: " in asked.out
    assert "--yes" in asked.err
    assert new in published(folder)
    done = keys("remove", new, "--yes", "--reason", "leaked", "--json")
    assert done.status == 0
    assert done.document["consequences"]
    assert done.phases[new] == "removed"
    assert new not in published(folder)
    assert '"leaked"' in (folder / "state.json").read_text()


def test_a_foreign_key_is_exit_3_until_it_is_adopted(keys: Keys, folder: Path) -> None:
    keys("advance")
    foreign = make_key(folder)
    file = folder / "site/openid/v1/jwks"
    ours = [entry.key for entry in observe_key_set(file.read_bytes()).entries if entry.key is not None]
    file.write_bytes(key_set_bytes([*ours, foreign]))
    found = keys("advance", "--json")
    assert found.status == 3
    assert foreign.key_id in found.document["tampering"][0]
    assert f"TAMPERING: file://{folder}/site shows the key {foreign.key_id}" in keys("status").out
    assert keys("adopt", foreign.key_id).status == 2
    adopted = keys("adopt", foreign.key_id, "--yes", "--json")
    assert adopted.status == 0
    assert adopted.phases[foreign.key_id] == "draining"
    assert keys("advance").status == 0


def test_a_lost_state(keys: Keys, folder: Path) -> None:
    keys("advance")
    (folder / "state.json").unlink()
    lost = keys("status")
    assert lost.status == 3
    assert "STATE MISSING" in lost.out
    assert f"  file://{folder}/site: {published(folder)[0]}" in lost.out
    assert keys("status", "--json").document["state_missing"] is True
    assert not (folder / "state.json").exists(), "a look makes no state"
    refused = keys("advance", "--json")
    assert (refused.status, refused.document["error"]["code"]) == (3, "state-missing")
    assert keys("status", "--rebuild").status == 0
    (folder / "state.json").write_text("{")
    assert keys("status", "--json").document["error"]["code"] == "state-invalid"
    rebuilt = keys("status", "--rebuild", "--json")
    assert rebuilt.status == 0
    assert "made anew" in rebuilt.document["done"][0]
    assert keys("status", "--rebuild").status == 2


def test_a_plan_of_a_migration(keys: Keys) -> None:
    words = ("--issuer", "https://old.example.com", "--migrate-to", "https://new.example.com")
    plan = keys("plan", *words, "--json", bare=True)
    assert plan.status == 0
    flags = [flag for step in plan.document["steps"] for flag in step["flags"]]
    assert "--service-account-issuer=https://new.example.com" in flags
    told = keys("plan", *words, bare=True).out
    assert told.startswith("1: ")
    assert "    - --service-account-issuer=https://new.example.com\n" in told
    for new, code in (("https://old.example.com", "config-conflict"), ("http://new", "issuer-invalid")):
        refused = keys("plan", "--issuer", "https://old.example.com", "--migrate-to", new, "--json", bare=True)
        assert (refused.status, refused.document["error"]["code"]) == (2, code)


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("stage",), "config-missing"),
        (("status", "--service-account", "publisher"), "config-invalid"),
        (("status", "--longest-token-lifetime", "soon"), "usage"),
        (("remove", "nobody", "--yes"), "unsafe-step"),
        (("forget", "nobody"), "unsafe-step"),
        (("abort", "nobody"), "unsafe-step"),
    ],
)
def test_what_is_wrong_is_said(keys: Keys, words: tuple[str, ...], code: str) -> None:
    keys("advance")
    said = keys(*words, "--json")
    assert said.status == (1 if code == "unsafe-step" else 2)
    assert said.document["error"]["code"] == code


def test_an_issuer_without_a_target_or_of_a_provider(keys: Keys, folder: Path) -> None:
    make_key(folder)
    said = keys("status", "--issuer", "https://oidc.example.com", "--public-key", "new.pub", "--json", bare=True)
    assert said.document["error"]["code"] == "config-missing"
    managed = "https://oidc.eks.eu-central-1.amazonaws.com/id/0123456789ABCDEF0123456789ABCDEF"
    said = keys("status", "--issuer", managed, "--public-key", "new.pub", "--json", bare=True)
    assert said.document["error"]["code"] == "issuer-unsuitable"


@pytest.mark.parametrize("no_color", ["", "1"])
def test_a_terminal_gets_a_table_and_a_drawn_timeline(folder: Path, no_color: str) -> None:
    kid = make_key(folder).key_id
    words = ["--issuer", "https://oidc.example.com", "--public-key", "new.pub", "--no-verify"]
    words += ["--to", f"file://{folder}/site", "--state", "state.json"]
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "wif", "keys", "advance", *words],
        cwd=folder,
        env=os.environ | {"NO_COLOR": no_color, "TERM": "xterm-256color", "COLUMNS": "160", "PYTHONPATH": str(ROOT)},
        stdout=follower,
        stderr=subprocess.DEVNULL,
        stdin=subprocess.DEVNULL,
    )
    os.close(follower)
    data = b""
    while select.select([leader], [], [], 30)[0]:
        try:
            part = os.read(leader, 65536)
        except OSError:  # the other side is closed
            break
        data += part
    os.close(leader)
    assert process.wait(30) == 0
    text = data.decode()
    assert "│" in text
    assert kid in text
    assert "▒ published/verified" in text
    assert bool(re.search("\x1b\\[[0-9;]*3[0-7]m", text)) == (not no_color)


def test_every_command_helps_with_an_example() -> None:
    commands = [found for _, found in leaves(keys_command) if not isinstance(found, click.Group)]
    assert len(commands) == 9
    for command in commands:
        assert f"wif keys {command.name}" in command.get_help(click.Context(command))
