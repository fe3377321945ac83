"""wif issuer publish, verify and unpublish as they are typed: words, statuses, files; and how fast the first is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.publishing import KeyFile, key_files, kids_at
from wif.emulator.authority import Authority
from wif.emulator.publication import Document, Publication

pytestmark = [pytest.mark.integration, pytest.mark.one_python, pytest.mark.xdist_group("cli")]

ISSUER = "https://issuer.wif.invalid"
"""A name that leads nowhere, by RFC 6761."""

LIMIT_SECONDS = 3.0
"""Six times what a publish takes on two quiet cores; benchmarks measure, this only finds an import gone astray."""

HEAVY = ("obstore", "kubernetes", "boto3", "requests", "rich", "jwt", "google", "azure", "uvicorn", "urllib3")
"""What a publish from a file to a directory has no use for."""


class Shell:
    """A directory of its own and nothing from outside."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        path = os.pathsep.join([str(Path(sys.executable).parent), os.defpath])
        self.environment = {"PATH": path, "HOME": str(folder), "PYTHONWARNINGS": "error"}

    def run(self, *words: str, status: int = 0, **variables: str) -> tuple[str, str]:
        done = subprocess.run(
            words,
            cwd=self.folder,
            env=self.environment | variables,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == status, f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        return done.stdout, done.stderr

    def publish(self, key: KeyFile, *words: str, status: int = 0, **variables: str) -> tuple[str, str]:
        given = ("--issuer", ISSUER, "--public-key", key.path, "--to", f"file://{self.folder}/out")
        return self.run("publish-oidc-discovery", *given, *words, status=status, **variables)


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


@pytest.fixture
def key(tmp_path: Path) -> KeyFile:
    return key_files(tmp_path, 1)[0]


def test_publish_says_what_it_did_and_what_a_cloud_would_see(shell: Shell, key: KeyFile) -> None:
    out, err = shell.publish(key)
    assert f"ok file://{shell.folder}/out: written" in out
    assert f"key added {key.kid}" in out
    assert "warning discovery:" in out  # nobody serves it yet, and that is no failure of this run
    assert "\x1b" not in out + err
    assert (shell.folder / ".local/state/wif/issuers").is_dir()
    out, _ = shell.publish(key, "--no-verify")
    assert "nothing to change" in out
    assert "discovery:" not in out


def test_a_dry_run_prints_a_diff_and_ends_with_3(shell: Shell, key: KeyFile) -> None:
    out, _ = shell.publish(key, "--dry-run", status=3)
    assert f'\n+      "kid": "{key.kid}"' in out
    assert not (shell.folder / "out").exists()


def test_an_unknown_key_is_an_alert_with_the_way_out(shell: Shell, key: KeyFile) -> None:
    shell.publish(key, "--no-verify")
    file = shell.folder / "out/openid/v1/jwks"
    document = json.loads(file.read_text())
    document["keys"].append(dict(document["keys"][0], kid="evil\x1b[31m\u202e"))
    file.write_text(json.dumps(document))
    out, _ = shell.publish(key, "--no-verify", status=3)
    assert "ALERT nobody vouches for" in out
    assert "--restore" in out
    assert not {"\x1b", "\u202e"} & set(out)
    out, _ = shell.publish(key, "--no-verify", "--json", status=3)
    assert len(json.loads(out)["targets"][0]["foreign"]) == 1
    shell.publish(key, "--no-verify", "--restore", status=3)
    assert kids_at(file.read_bytes()) == [key.kid]
    shell.publish(key, "--no-verify")


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["--issuer", "https://kubernetes.default.svc.cluster.local"], 2, "issuer-default"),
        (["--issuer", "http://issuer.example.com"], 2, "issuer"),
        (["--to", "ftp://somewhere"], 2, "no known kind"),
        (["--to", "gcp-provider:projects/1/locations/global/workloadIdentityPools/pool/providers/x"], 1, "FAILED"),
        (["--state", "{folder}/out/state.json"], 2, "public"),
        (["--jwks", "{folder}/out/openid/v1/jwks"], 2, "the source"),
        (["--public-key", "missing.pub"], 2, "missing.pub"),
        (["--name", "other"], 2, "no issuer 'other'"),
    ],
)
def test_what_cannot_be_right_is_refused_before_anything_is_written(
    shell: Shell, key: KeyFile, words: list[str], status: int, said: str
) -> None:
    given = [word.format(folder=shell.folder) for word in words]
    if "--issuer" in given:
        arguments = ["--public-key", key.path, "--to", f"file://{shell.folder}/out", *given, "--no-verify"]
        out, err = shell.run("wif", "issuer", "publish", *arguments, status=status)
    else:
        out, err = shell.publish(key, *given, "--no-verify", status=status)
    assert said in out + err
    if status == 2:
        assert not (shell.folder / "out/openid").exists()


def test_documents_for_git_are_those_that_a_target_gets(shell: Shell, key: KeyFile) -> None:
    shell.publish(key, "--no-verify")
    for name, path in (("discovery", ".well-known/openid-configuration"), ("jwks", "openid/v1/jwks")):
        printed, _ = shell.publish(key, "--print", name)
        assert printed == (shell.folder / "out" / path).read_text()
    both = json.loads(shell.publish(key, "--print", "both")[0])
    assert list(both) == [".well-known/openid-configuration", "openid/v1/jwks"]
    shell.publish(key, "--print", "both", "--json", status=2)


def test_a_removed_key_is_not_printed_either(shell: Shell, key: KeyFile) -> None:
    shell.publish(key, "--no-verify")
    [state] = (shell.folder / ".local/state/wif/issuers").glob("*.json")
    document = json.loads(state.read_text())
    record = document["keys"].pop(key.kid)
    document["removed"][key.kid] = {
        "removed_at": "2026-01-01T00:00:00Z",
        "how": "removed",
        "reason": "",
        "jwk": record["jwk"],
        "fingerprint": record["fingerprint"],
    }
    state.write_text(json.dumps(document))
    out, err = shell.publish(key, "--print", "jwks")
    assert json.loads(out)["keys"] == []
    assert "left out" in err


def test_set_up_commands_are_printed_for_each_target(shell: Shell, key: KeyFile) -> None:
    out, _ = shell.publish(key, "--to", "s3://bucket/a?region=eu-central-1", "--print", "setup")
    assert "aws s3api put-bucket-policy --bucket bucket" in out
    assert f"install -d -m 0755 {shell.folder}/out" in out


def test_unpublish_asks_twice(shell: Shell, key: KeyFile) -> None:
    shell.publish(key, "--no-verify")
    given = ("--issuer", ISSUER, "--public-key", key.path, "--to", f"file://{shell.folder}/out")
    out, err = shell.run("wif", "issuer", "unpublish", *given)
    assert "1. remove the trust in every cloud" in out
    assert "--yes" in err
    assert (shell.folder / "out/openid/v1/jwks").exists()
    shell.run("wif", "issuer", "unpublish", *given, "--yes")
    assert not (shell.folder / "out/openid/v1/jwks").exists()
    assert not (shell.folder / "out/.well-known/openid-configuration").exists()


@pytest.fixture
def served(shell: Shell) -> Iterator[Mapping[str, str]]:
    """The directory behind a real HTTPS server."""

    def find(path: str) -> Document | None:
        file = shell.folder / "served" / path.lstrip("/")
        kind = "application/jwk-set+json" if path.endswith("jwks") else "application/json"
        if not file.is_file():
            return None
        return Document(operation="document", body=file.read_bytes(), content_type=kind, cache_control="max-age=60")

    with Authority() as authority:
        publication = Publication(authority.server_context(), find)
        yield {"issuer": publication.url, "ca": str(authority.ca_file)}
        publication.stop()


def test_verify_and_publish_look_from_outside(shell: Shell, key: KeyFile, served: Mapping[str, str]) -> None:
    given = ["--issuer", served["issuer"], "--allow-private", "--ca-file", served["ca"]]
    sources = ["--public-key", key.path, "--to", f"file://{shell.folder}/served"]
    out, _ = shell.run("wif", "issuer", "publish", *given, *sources)
    assert "ok keys-expected" in out
    assert "ok discovery-issuer" in out
    shell.run("wif", "issuer", "verify", *given, *sources)
    shell.run("wif", "issuer", "verify", *given)  # an address alone is enough to look at it
    other = key_files(shell.folder, 1)[0]
    out, _ = shell.run("wif", "issuer", "verify", *given, "--public-key", other.path, status=3)
    assert "FAILED keys-expected" in out
    assert "ok keys-unknown" in out  # the state records the key that stands there
    elsewhere = ("--public-key", other.path, "--state", "elsewhere.json")
    out, _ = shell.run("wif", "issuer", "verify", *given, *elsewhere, status=3)
    assert "ALERT keys-unknown" in out
    (shell.folder / "served/openid/v1/jwks").unlink()
    shell.run("wif", "issuer", "verify", *given, status=1)


def test_a_key_set_of_an_address_vouches_unless_it_is_ours(
    shell: Shell, key: KeyFile, served: Mapping[str, str]
) -> None:
    source = shell.folder / "served/source.json"
    source.parent.mkdir()
    source.write_text(json.dumps({"keys": [dict(key.key.jwk)]}))
    given = ["--issuer", ISSUER, "--to", f"file://{shell.folder}/out", "--no-verify", "--ca-file", served["ca"]]
    shell.run("wif", "issuer", "publish", *given, "--jwks", f"{served['issuer']}/source.json")
    assert kids_at((shell.folder / "out/openid/v1/jwks").read_bytes()) == [key.kid]
    _, err = shell.run("wif", "issuer", "publish", *given, "--jwks", f"{served['issuer']}/missing", status=1)
    assert "404" in err
    _, err = shell.run("wif", "issuer", "publish", *given, "--jwks", f"{ISSUER}/openid/v1/jwks", status=2)
    assert "the issuer's own" in err


def test_a_publish_to_a_directory_starts_fast_and_loads_little(shell: Shell, key: KeyFile) -> None:
    program = (
        "import sys; from wif.cli import publish_oidc_discovery; status = publish_oidc_discovery();"
        f"print(*[name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr); sys.exit(status)"
    )
    words = ["--issuer", ISSUER, "--public-key", key.path, "--to", f"file://{shell.folder}/out", "--no-verify"]
    started = time.monotonic()
    _, err = shell.run(sys.executable, "-c", program, *words)
    assert time.monotonic() - started < LIMIT_SECONDS
    assert err.strip() == ""
