"""The command line as a user runs it: processes of their own in a pod, the local STS behind its proxy, real SDKs."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import shlex
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.integration.explaining import THREE, Explain, account, controller
from tests.integration.shell import AWS, AZURE, GCP, SCOPE, Shell, leaves
from tests.pod import ACCOUNT, CLIENT, PROVIDER, ROLE, TENANT, Pod, running_pod
from tests.publishing import key_files
from wif.cli.root import cli
from wif.emulator.apiserver import ApiServer

pytestmark = [pytest.mark.integration, pytest.mark.one_python, pytest.mark.xdist_group("cli")]

SUBJECT = "system:serviceaccount:shop:app"
PRINCIPAL = f"principal://iam.googleapis.com/{PROVIDER.partition('/providers/')[0]}/subject/{SUBJECT}"
PROCESS = ["exchange", "aws", *AWS, "--format", "credential-process", "--cache"]


@pytest.fixture(scope="module")
def pod(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pod]:
    with running_pod(tmp_path_factory.mktemp("pod")) as pod:
        yield pod


@pytest.fixture
def shell(pod: Pod, tmp_path: Path) -> Shell:
    return Shell(pod, tmp_path)


# -- exchange ------------------------------------------------------------------------------------------------


def test_aws_keys_in_every_format(shell: Shell) -> None:
    keys = shell.json("exchange", "aws", *AWS, "--region", "eu-central-1")
    assert keys["assumed_role_arn"].startswith("arn:aws:sts::111122223333:assumed-role/app/")
    assert (keys["region"], keys["local_sts"], keys["account_id"]) == ("eu-central-1", True, "111122223333")
    answer = shell.json("exchange", "aws", *AWS, "--format", "credential-process")
    assert set(answer) == {"Version", "AccessKeyId", "SecretAccessKey", "SessionToken", "Expiration", "AccountId"}
    out, err = shell.run("exchange", "aws", *AWS, "--format", "env", "--region", "eu-central-1")
    names = [line.split()[1].split("=")[0] for line in out.splitlines()]
    assert names == [
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_CREDENTIAL_EXPIRATION",
        "AWS_REGION",
        "AWS_DEFAULT_REGION",
    ]
    assert "the local STS" in err


def test_exported_keys_work_with_boto3(shell: Shell) -> None:
    program = "import boto3; print(boto3.client('sts').get_caller_identity()['Arn'])"
    words = shlex.join([*AWS, "--format", "env", "--region", "eu-central-1"])
    command = f'eval "$(wif exchange aws {words} 2>/dev/null)" && exec "$0" -c "$1"'
    done = subprocess.run(
        ["sh", "-c", command, sys.executable, program],
        cwd=shell.folder,
        env=shell.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.startswith("arn:aws:sts::111122223333:assumed-role/app/")


def test_google_tokens_in_every_format(shell: Shell) -> None:
    direct = shell.json("exchange", "gcp", *GCP)
    assert direct["local_sts"]
    assert direct["scopes"] == ["https://www.googleapis.com/auth/cloud-platform"]
    out, _ = shell.run("exchange", "gcp", *GCP, "--service-account", ACCOUNT, "--format", "header")
    assert out.startswith("Authorization: Bearer ")
    out, _ = shell.run("exchange", "gcp", *GCP, "--format", "env", "--project", "shop-project")
    assert [line.split()[1].split("=")[0] for line in out.splitlines()] == [
        "CLOUDSDK_AUTH_ACCESS_TOKEN",
        "GOOGLE_OAUTH_ACCESS_TOKEN",
        "GOOGLE_CLOUD_PROJECT",
    ]
    found = shell.json("exchange", "gcp", *GCP, "--service-account", ACCOUNT, "--id-token", "--audience", "https://x")
    assert found["audience"] == "https://x"
    shell.run("exchange", "gcp", *GCP, "--id-token", status=2)
    shell.run("exchange", "gcp", *GCP, "--audience", "x", status=2)
    shell.run("exchange", "gcp", *GCP, "--id-token", "--audience", "x", status=2)


def test_azure_tokens_in_every_format(shell: Shell) -> None:
    assert shell.json("exchange", "azure", *AZURE, *SCOPE)["token_type"] == "Bearer"
    assert shell.run("exchange", "azure", *AZURE, *SCOPE, "--format", "header")[0].startswith("Authorization: Bearer ")
    assert shell.run("exchange", "azure", *AZURE, *SCOPE, "--format", "env")[0].startswith("export AZURE_ACCESS_TOKEN=")
    _, err = shell.run("exchange", "azure", *AZURE, status=2)
    assert "no scope" in err


@pytest.mark.parametrize(
    "words",
    [
        ["aws", *AWS, "--format", "header"],
        ["gcp", *GCP, "--format", "credential-process"],
        ["azure", *AZURE, "--format", "credential-process"],
        ["aws", *AWS, "--json", "--format", "env"],
        ["aws", *AWS, "--cache"],
        ["moon"],
    ],
)
def test_other_pairs_are_wrong_usage(shell: Shell, words: list[str]) -> None:
    out, err = shell.run("exchange", *words, status=2)
    assert "{" not in out or json.loads(out)["error"]["code"] == "usage"
    assert len(err.splitlines()) == 2


def test_a_role_chain(shell: Shell) -> None:
    out, err = shell.run("exchange", "aws", *AWS, "--chain", '{"role_arn": "x", "nothing": 1}', status=2)
    assert "chained role" in err
    _, err = shell.run("exchange", "aws", *AWS, "--chain", ROLE, status=1)
    assert "AssumeRole" in err
    assert not out


def test_a_token_from_a_pipe(shell: Shell) -> None:
    words = ["--role-arn", ROLE, "--file", "-"]
    assert shell.json("exchange", "aws", *words, stdin=shell.token)["account_id"] == "111122223333"
    _, err = shell.run("exchange", "aws", *words, stdin="", status=1)
    assert "empty" in err


def test_settings_come_from_flags_then_variables_then_the_file(shell: Shell) -> None:
    (shell.folder / "wif.yaml").write_text(f"token_file: token\naws:\n  role_arn: {ROLE}\n  session_name: from-file\n")
    assert shell.json("exchange", "aws")["assumed_role_arn"].endswith("/from-file")
    by_variable = shell.json("exchange", "aws", WIF_AWS_SESSION_NAME="from-variable")
    assert by_variable["assumed_role_arn"].endswith("/from-variable")
    by_flag = shell.json("exchange", "aws", "--session-name", "from-flag", WIF_AWS_SESSION_NAME="from-variable")
    assert by_flag["assumed_role_arn"].endswith("/from-flag")
    _, err = shell.run("exchange", "aws", WIF_AWS_ROLEARN="x")
    assert "WIF_AWS_ROLEARN" in err
    (shell.folder / "wif.yaml").write_text("aws:\n  endpoint_url: https://evil.example/\n")
    _, err = shell.run("exchange", "aws", *AWS, status=2)
    assert "--config-file" in err
    (shell.folder / "bad.yaml").write_text("a: [")
    _, err = shell.run("exchange", "aws", *AWS, "--config-file", "bad.yaml", status=2)
    assert "not YAML" in err


def test_the_webhooks_variables_are_enough(pod: Pod, shell: Shell) -> None:
    shell.environment = {**pod.environment}
    assert shell.json("whoami", "aws", "--json")["identity"].startswith("arn:aws:sts::111122223333:assumed-role/app/")
    assert shell.json("whoami", "gcp", "--json")["identity"] == ACCOUNT
    assert shell.json("whoami", "azure", "--json")["identity"] == CLIENT


# -- whoami --------------------------------------------------------------------------------------------------


def test_whoami(shell: Shell) -> None:
    found = shell.json("whoami", "aws", *AWS, "--json")
    assert (found["proof"], found["confirmed"]) == ("GetCallerIdentity", True)
    found = shell.json("whoami", "gcp", *GCP, "--json")
    assert (found["identity"], found["proof"], found["confirmed"]) == (PRINCIPAL, "introspect", True)
    found = shell.json("whoami", "gcp", *GCP, "--service-account", ACCOUNT, "--json")
    assert (found["identity"], found["proof"]) == (ACCOUNT, "generateAccessToken")
    found = shell.json("whoami", "azure", *AZURE, "--json")
    assert (found["identity"], found["tenant"], found["confirmed"]) == (CLIENT, TENANT, True)
    out, _ = shell.run("whoami", "azure", *AZURE)
    assert "local sts: yes" in out


def test_whoami_says_where_google_does_not_answer(shell: Shell) -> None:
    with shell.pod.emulator.faults.inject(cloud="gcp", operation="introspect", status=404):
        found = shell.json("whoami", "gcp", *GCP, "--json")
    assert found["identity"] == PRINCIPAL
    assert found["proof"].startswith("derived, not confirmed")
    assert not found["confirmed"]


# -- errors --------------------------------------------------------------------------------------------------


def test_an_error_is_two_lines_and_one_object(shell: Shell) -> None:
    (shell.folder / "token").write_text("not a token")
    out, err = shell.run("exchange", "aws", *AWS, "--json", status=1)
    assert json.loads(out)["error"]["code"] == "token-malformed"
    lines = err.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("error: ")
    assert lines[1].startswith("hint: ")
    _, err = shell.run("exchange", "aws", *AWS, "--log-level", "debug", status=1)
    assert "Traceback" in err


def test_a_refusal_is_status_1_and_a_wrong_setting_2(shell: Shell) -> None:
    _, err = shell.run("exchange", "aws", "--role-arn", ROLE.replace("app", "other"), "--file", "token", status=1)
    assert "AssumeRoleWithWebIdentity" in err
    shell.run("exchange", "aws", "--role-arn", "other", "--file", "token", status=2)
    shell.run("exchange", "aws", "--role-arn", ROLE, status=2)
    shell.run("exchange", "aws", *AWS, "--region", "moon", status=2)


def test_a_defect_is_two_lines_too(shell: Shell) -> None:
    program = (
        "import sys, wif.cli.root as root\n"
        "def broken(*_, **__): raise RuntimeError('a secret')\n"
        "root.cli.main = broken\n"
        "sys.argv = ['wif', 'exchange']\n"
        "from wif.cli import main\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=shell.environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert "a secret" not in done.stderr
    assert [line.split(":")[0] for line in done.stderr.splitlines()] == ["error", "hint"]


def test_debug_shows_requests_and_no_secret(shell: Shell) -> None:
    out, err = shell.run("exchange", "aws", *AWS, "--log-level", "debug")
    keys = json.loads(out)
    assert "AssumeRoleWithWebIdentity: POST https://sts.amazonaws.com/" in err
    for secret in (shell.token, keys["secret_access_key"], keys["session_token"]):
        assert secret not in err
    out, err = shell.run("exchange", "gcp", *GCP, "--service-account", ACCOUNT, "--log-level", "debug")
    assert "generateAccessToken: POST" in err
    assert json.loads(out)["token"] not in err
    out, err = shell.run("exchange", "azure", *AZURE, *SCOPE, "--log-level", "debug")
    assert json.loads(out)["token"] not in err


def test_a_reader_that_goes_away_is_no_traceback(shell: Shell) -> None:
    done = subprocess.run(
        ["sh", "-c", f"wif exchange aws {shlex.join(AWS)} --format credential-process | true"],
        cwd=shell.folder,
        env=shell.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "Traceback" not in done.stderr


# -- the cache -----------------------------------------------------------------------------------------------


def test_many_calls_cost_one_exchange(shell: Shell) -> None:
    before = shell.pod.emulator.exchanges
    answers = {shell.run(*PROCESS)[0] for _ in range(4)}
    assert shell.pod.emulator.exchanges == before + 1
    assert len(answers) == 1
    folder = shell.folder / "wif"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    entries = [path for path in folder.iterdir() if path.suffix == ".json"]
    assert len(entries) == 1
    assert stat.S_IMODE(entries[0].stat().st_mode) == 0o600
    assert shell.token not in entries[0].read_text()
    assert shell.token.split(".")[2] not in entries[0].read_text()
    assert shell.json("cache", "clear", "--json") == {"directory": str(folder), "removed": 1}
    shell.run(*PROCESS)
    assert shell.pod.emulator.exchanges == before + 2


def test_processes_at_once_cost_one_exchange(shell: Shell) -> None:
    before = shell.pod.emulator.exchanges
    with ThreadPoolExecutor(4) as pool:
        answers = set(pool.map(lambda _: shell.run(*PROCESS)[0], range(4)))
    assert shell.pod.emulator.exchanges == before + 1
    assert len(answers) == 1


@pytest.mark.parametrize(
    ("words", "changes"),
    [
        (["--session-name", "other"], {}),
        (["--region", "eu-central-1"], {}),
        (["--duration-seconds", "901"], {}),
        (["--policy", '{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"*","Resource":"*"}]}'], {}),
        ([], {"AWS_REGION": "eu-central-1"}),
        ([], {"WIF_AWS_SESSION_NAME": "other"}),
    ],
)
def test_what_is_asked_for_is_part_of_the_key(shell: Shell, words: list[str], changes: dict[str, str]) -> None:
    shell.run(*PROCESS)
    before = shell.pod.emulator.exchanges
    shell.run(*PROCESS, *words, status=0, stdin="", **changes)
    assert shell.pod.emulator.exchanges == before + 1


def test_another_subject_never_gets_the_entry(shell: Shell) -> None:
    shell.run(*PROCESS)
    header, payload, signature = shell.token.split(".")
    claims = json.loads(_decoded(payload))
    changes: tuple[dict[str, Any], ...] = (
        {"sub": "system:serviceaccount:shop:other"},
        {"iss": "https://other.example"},
        {"kubernetes.io": {}},
    )
    for change in changes:
        (shell.folder / "token").write_text(f"{header}.{_encoded(claims | change)}.{signature}")
        out, _ = shell.run(*PROCESS, status=1)
        assert not out


def _decoded(part: str) -> bytes:
    import base64

    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def _encoded(value: Any) -> str:
    import base64

    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def test_an_unusable_cache_is_a_warning_and_a_live_exchange(shell: Shell) -> None:
    folder = shell.folder / "wif"
    shell.run(*PROCESS)
    entry = next(path for path in folder.iterdir() if path.suffix == ".json")
    before = shell.pod.emulator.exchanges

    entry.chmod(0o644)
    _, err = shell.run(*PROCESS)
    assert "open to others" in err
    assert stat.S_IMODE(entry.stat().st_mode) == 0o600, "replaced by one of its own"

    kept = entry.read_bytes()
    (shell.folder / "elsewhere").write_bytes(kept)
    (shell.folder / "elsewhere").chmod(0o600)
    entry.unlink()
    entry.symlink_to(shell.folder / "elsewhere")
    _, err = shell.run(*PROCESS)
    assert "warning" in err
    assert (shell.folder / "elsewhere").read_bytes() == kept, "no link is followed for writing"

    folder.chmod(0o750)
    _, err = shell.run(*PROCESS)
    assert "0750" in err
    folder.chmod(0o700)

    folder.rename(shell.folder / "moved")
    folder.symlink_to(shell.folder / "moved")
    _, err = shell.run(*PROCESS)
    assert "not used" in err
    assert shell.pod.emulator.exchanges == before + 4
    folder.unlink()
    folder.write_text("")
    _, err = shell.run("cache", "clear", status=2)
    assert "cannot be cleared" in err


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_cache_of_somebody_else_is_refused(shell: Shell) -> None:
    folder = shell.folder / "wif"
    folder.mkdir(mode=0o700)
    os.chown(folder, 12345, 12345)
    _, err = shell.run(*PROCESS)
    assert "12345" in err


def test_a_token_from_a_pipe_is_not_kept(shell: Shell) -> None:
    words = [word if word != "token" else "-" for word in PROCESS]
    _, err = shell.run(*words, stdin=shell.token)
    assert "no entry" in err
    assert not (shell.folder / "wif").exists()


def test_a_warm_answer_comes_without_the_framework(shell: Shell) -> None:
    first, _ = shell.run(*PROCESS)
    program = f"import sys\nfrom wif.cli import main\nmain({PROCESS!r})\nprint(*sorted(sys.modules))"
    answer, modules = shell.python(program).splitlines()
    assert answer == first.strip()
    loaded = {name for name in modules.split() if name.partition(".")[0] == "wif"}
    assert loaded == {"wif", "wif.cli", "wif.cli.warm", "wif.edges", "wif.edges.credential_cache"}
    for heavy in ("click", "typing", "dataclasses", "urllib3", "logging", "pathlib", "hashlib", "yaml", "ssl"):
        assert heavy not in modules.split()


def test_an_exchange_loads_what_it_needs(shell: Shell) -> None:
    for words in (["exchange", "aws", *AWS], ["exchange", "gcp", *GCP], ["exchange", "azure", *AZURE, *SCOPE]):
        program = f"import sys\nfrom wif.cli import main\nmain({words!r})\nprint(*sorted(sys.modules))"
        modules = shell.python(program).splitlines()[-1].split()
        roots = {name.partition(".")[0] for name in modules}
        assert not roots & {
            "jwt", "cryptography", "requests", "rich", "msgspec", "yaml", "boto3", "botocore", "google", "azure",
            "kubernetes", "aiohttp", "asyncio", "trustme", "uvicorn", "starlette", "difflib",
        }, words  # fmt: skip
        assert not [name for name in modules if name.startswith(("wif.emulator", "wif.trust", "wif.sdk", "wif.demo"))]
        assert {name for name in modules if name.startswith("wif.cli")} == {
            "wif.cli",
            "wif.cli.root",
            "wif.cli.frame",
            "wif.cli.exchange",
            "wif.cli.identities",
            "wif.cli.options",
            "wif.cli.output",
        }


# -- tokens --------------------------------------------------------------------------------------------------


def test_an_inspection_shows_everything_but_the_signature(shell: Shell) -> None:
    out, _ = shell.run("token", "inspect", "token")
    assert SUBJECT in out
    assert "time left: " in out
    assert shell.token.split(".")[2] not in out
    found = shell.json("token", "inspect", "token", "--json")
    assert found["claims"]["sub"] == SUBJECT
    assert set(found["clouds"]) == {"aws", "gcp", "azure"}
    assert 0 < found["seconds_left"] <= found["lifetime_seconds"]
    assert shell.token.split(".")[2] not in json.dumps(found)
    assert shell.json("token", "inspect", "-", "--json", stdin=shell.token)["origin"] == "standard input"


def test_an_inspection_marks_tokens_of_the_local_sts(shell: Shell) -> None:
    token = shell.json("exchange", "azure", *AZURE, *SCOPE)["token"]
    assert shell.json("token", "inspect", "-", "--json", stdin=token)["local_sts"]


def test_a_raw_token_is_printed_as_it_is(shell: Shell) -> None:
    assert shell.run("token", "print", "--file", "token") == (f"{shell.token}\n", "")
    assert shell.json("token", "print", "--file", "token", "--json")["subject"] == SUBJECT


@pytest.mark.parametrize("level", [[], ["--log-level", "debug"], ["--log-level", "error"]])
def test_an_executable_source_says_nothing_on_stderr(shell: Shell, level: list[str]) -> None:
    words = ["token", "print", "--format", "executable", *level]
    out, err = shell.run(*words, "--file", "token")
    answer = json.loads(out)
    assert (answer["success"], answer["version"], answer["id_token"]) == (True, 1, shell.token)
    assert answer["expiration_time"] > time.time()
    assert err == ""
    for wrong in (["--file", "missing"], ["--nope"], [], ["--file", "token", "--audience", "other"]):
        out, err = shell.run(*words, *wrong)
        answer = json.loads(out)
        assert (answer["success"], answer["version"]) == (False, 1)
        assert answer["code"]
        assert answer["message"]
        assert err == ""


# -- config --------------------------------------------------------------------------------------------------

WHO_AWS = "import boto3; print(boto3.client('sts').get_caller_identity()['Arn'])"
WHO_GCP = (
    "import google.auth, google.auth.transport.requests as r\n"
    "c, p = google.auth.default(scopes=['https://www.googleapis.com/auth/cloud-platform'])\n"
    "c.refresh(r.Request()); print(bool(c.token), p)"
)
WHO_AZURE = (
    "from azure.identity import WorkloadIdentityCredential as W\n"
    "print(bool(W().get_token('https://management.azure.com/.default').token))"
)


def test_boto3_from_both_profiles(shell: Shell) -> None:
    shell.run("config", "aws", *AWS, "--region", "eu-central-1", "--out", "made", "--cache")
    for name in ("config", "config-process"):
        who = shell.python(WHO_AWS, AWS_CONFIG_FILE=str(shell.folder / "made/aws" / name), AWS_PROFILE="wif")
        assert who.startswith("arn:aws:sts::111122223333:assumed-role/app/")


@pytest.mark.parametrize("more", [[], ["--service-account", ACCOUNT]])
def test_google_auth_from_both_sources(shell: Shell, more: list[str]) -> None:
    shell.run("config", "gcp", *GCP, *more, "--project", "shop-project", "--out", "made")
    for name in ("credentials.json", "credentials-executable.json"):
        answer = shell.python(
            WHO_GCP,
            GOOGLE_APPLICATION_CREDENTIALS=str(shell.folder / "made/gcp" / name),
            GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES="1",
            GOOGLE_CLOUD_PROJECT="shop-project",
        )
        assert answer == "True shop-project"


def test_azure_identity_from_the_environment_file(shell: Shell) -> None:
    shell.run("config", "azure", *AZURE, "--out", "made")
    done = subprocess.run(
        ["sh", "-c", 'set -a; . made/azure/env; exec "$0" -c "$1"', sys.executable, WHO_AZURE],
        cwd=shell.folder,
        env=shell.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.strip() == "True"


def test_the_exports_of_all_three_lead_all_three_sdks(shell: Shell) -> None:
    words = [
        *("config", "all", "--file", "token", "--out", "made", "--env", "--aws-role-arn", ROLE),
        *("--aws-region", "eu-central-1", "--gcp-provider", PROVIDER, "--gcp-service-account", ACCOUNT),
        *("--azure-tenant-id", TENANT, "--azure-client-id", CLIENT),
    ]
    program = f"{WHO_AWS}\n{WHO_GCP}\n{WHO_AZURE}"
    done = subprocess.run(
        ["sh", "-c", f'eval "$(wif {shlex.join(words)})"; exec "$0" -c "$1"', sys.executable, program],
        cwd=shell.folder,
        # what a webhook injected must not win silently over the profile
        env=shell.environment
        | {"AWS_ROLE_ARN": "arn:aws:iam::111122223333:role/wrong", "AWS_WEB_IDENTITY_TOKEN_FILE": "x"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    arn, google, azure = done.stdout.splitlines()
    assert arn.startswith("arn:aws:sts::111122223333:assumed-role/app/")
    assert (google, azure) == ("True shop-project", "True")
    for path in (shell.folder / "made").rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)


# -- help, completion, terminal --------------------------------------------------------------------------------


EVERY = dict(leaves(cli))
SLOW = {
    *(("demo",), ("emulator",), ("issuer", "serve"), ("issuer", "watch"), ("token", "request")),
    *(("sidecar", "serve"), ("webhook", "serve")),
}
"""Examples that run for good, or need a cluster: they have tests of their own."""

NEEDS_A_ROTATION = {path for path in EVERY if path[0] == "keys" and path[1:] not in ((), ("plan",))}
"""Examples that speak of a key in some phase of a rotation: test_keys_command.py."""

STATUSES: dict[tuple[str, ...], int] = {("issuer", "verify"): 1}
"""Nobody serves the issuer of the examples: what a cloud would say of it is the right answer."""


@pytest.mark.parametrize("path", EVERY, ids=" ".join)
def test_every_help_ends_with_an_example(shell: Shell, path: tuple[str, ...]) -> None:
    out, _ = shell.run(*path, "--help")
    example = out.rstrip().splitlines()[-1]
    assert out.rstrip().splitlines()[-2] == "Example:"
    assert shlex.split(example)[0] == "wif"
    assert shlex.split(example)[1 : 1 + len(path)] == list(path)


@pytest.mark.parametrize("path", sorted(EVERY.keys() - SLOW - NEEDS_A_ROTATION), ids=" ".join)
def test_every_example_runs(shell: Shell, path: tuple[str, ...]) -> None:
    example: str = EVERY[path].example  # type: ignore[attr-defined]  # every command of ours has one
    Path(key_files(shell.folder, 1)[0].path).rename(shell.folder / "sa.pub")
    Explain(shell.folder).write("pod.yaml", controller())
    Explain(shell.folder).write("sa.yaml", account(THREE))
    words = shlex.split(example.replace("file:///srv/", f"file://{shell.folder}/"))
    shell.run(*words[1:], status=STATUSES.get(path, 0), XDG_STATE_HOME=str(shell.folder))


def test_the_example_of_the_demo_runs(shell: Shell) -> None:
    example: str = EVERY["demo",].example  # type: ignore[attr-defined]  # every command of ours has one
    shell.run(*shlex.split(example)[1:])


def test_the_example_of_the_emulator_runs(shell: Shell) -> None:
    (shell.folder / "trust").mkdir()
    (shell.folder / "trust/aws.json").write_text('{"OpenIDConnectProviders": [], "Roles": []}')
    example: str = EVERY["emulator",].example  # type: ignore[attr-defined]  # every command of ours has one
    process = shell.start(*shlex.split(example)[1:], "--ca-out", "ca.pem", NO_PROXY=".amazonaws.com")
    try:
        assert process.stdout is not None
        block = [process.stdout.readline() for _ in range(9)]
        exports = "".join(line for line in block if line.startswith("export "))
        assert "HTTPS_PROXY=http://127.0.0.1:" in exports
        for name in ("https_proxy", "NO_PROXY", "no_proxy", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "AWS_CA_BUNDLE"):
            assert f"export {name}=" in exports
        assert "BEGIN CERTIFICATE" in (shell.folder / "ca.pem").read_text()
    finally:
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "amazonaws.com" in err


def test_the_example_of_a_token_request_runs(shell: Shell, api_server: ApiServer) -> None:
    api_server.create_service_account("default", "app")
    example: str = EVERY["token", "request"].example  # type: ignore[attr-defined]  # every command of ours has one
    out, _ = shell.run(*shlex.split(example)[1:], KUBECONFIG=str(api_server.kubeconfig))
    assert len(out.split(".")) == 3


def test_completion(shell: Shell) -> None:
    out, _ = shell.run(_WIF_COMPLETE="bash_source")
    assert "_WIF_COMPLETE" in out
    out, _ = shell.run(_WIF_COMPLETE="bash_complete", COMP_WORDS="wif exch", COMP_CWORD="1")
    assert "exchange" in out


@pytest.mark.parametrize("no_color", ["", "1"])
def test_a_terminal_gets_a_table_and_no_color_is_honoured(shell: Shell, no_color: str) -> None:
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        ["wif", "token", "inspect", "token"],
        cwd=shell.folder,
        env=shell.environment | {"NO_COLOR": no_color, "TERM": "xterm-256color", "COLUMNS": "200"},
        stdout=follower,
        stderr=follower,
        stdin=subprocess.DEVNULL,
    )
    os.close(follower)
    data = b""
    while select.select([leader], [], [], 30)[0]:
        try:
            part = os.read(leader, 65536)
        except OSError:
            break
        if not part:
            break
        data += part
    os.close(leader)
    assert process.wait(30) == 0
    text = data.decode()
    assert "│" in text
    assert SUBJECT in text
    assert bool(re.search("\x1b\\[[0-9;]*3[0-7]m", text)) == (not no_color)
    assert shell.token.split(".")[2] not in text


def test_the_version_comes_first(shell: Shell) -> None:
    import wif

    assert shell.run("--version")[0] == f"wif {wif.__version__}\n"
    assert shell.python(
        "import sys\nfrom wif.cli import main\nmain(['--version'])\nprint('click' in sys.modules)"
    ).endswith("False")
