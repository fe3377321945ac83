"""What ``--json`` prints is what the schemas of the docs say: every command, run against the local STS."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import jsonschema
import pytest

from tests.integration.shell import AWS, AZURE, GCP, SCOPE, Shell, leaves
from tests.pod import ACCOUNT, CLIENT, PROVIDER, ROLE, TENANT, Pod, running_pod
from tests.publishing import key_files
from wif.cli.root import cli
from wif.emulator.apiserver import ApiServer

pytestmark = [pytest.mark.integration, pytest.mark.one_python, pytest.mark.xdist_group("cli")]

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"
SCHEMAS = {path.stem: json.loads(path.read_text()) for path in sorted((REFERENCE / "schemas").glob("*.json"))}
ALL = [
    *("--file", "token", "--out", "made", "--aws-role-arn", ROLE, "--gcp-provider", PROVIDER),
    *("--azure-tenant-id", TENANT, "--azure-client-id", CLIENT),
]

RUNS: dict[str, list[list[str]]] = {
    "cache clear": [[]],
    "config all": [ALL],
    "config aws": [[*AWS, "--env"], [*AWS, "--out", "made", "--region", "eu-central-1", "--aws-config", "config"]],
    "config azure": [[*AZURE, "--env"], [*AZURE, "--out", "made"]],
    "config gcp": [[*GCP, "--out", "made"]],
    "demo": [[]],
    "exchange aws": [AWS, [*AWS, "--region", "eu-central-1"]],
    "exchange azure": [[*AZURE, *SCOPE]],
    "exchange gcp": [
        GCP,
        [*GCP, "--service-account", ACCOUNT],
        [*GCP, "--service-account", ACCOUNT, "--id-token", "--audience", "https://x"],
    ],
    "run": [["--print-environment", "--aws-role-arn", ROLE, "--file", "token"]],
    "token inspect": [["token"]],
    "token print": [["--file", "token"]],
    "webhook render": [[], ["--no-validation"], ["--mutating-admission-policy", "--azure-layout", "v1.5"]],
    "whoami aws": [AWS],
    "whoami azure": [AZURE],
    "whoami gcp": [GCP, [*GCP, "--service-account", ACCOUNT], [*GCP, "--project", "shop-project"]],
}
"""Every command that ends by itself and needs no API server, with the options that change what it prints."""

_STEPS = ("abort", "adopt", "advance", "forget", "plan", "remove", "retire", "stage", "status")
KEYS = {f"keys {name}" for name in _STEPS}
"""Run in test_keys_command.py, against an API server."""

SERVERS = {"issuer serve", "issuer watch", "sidecar serve", "webhook serve"}
"""Held to their schemas at each start in the tests of each: test_issuer_serve.py and so on."""

WEBHOOK = {"webhook explain"}
"""Held to its schema in each test of test_webhook_explain.py."""

SPECIAL = {
    "emulator",
    "issuer publish",
    "issuer unpublish",
    "issuer verify",
    "token request",
    *KEYS,
    *SERVERS,
    *WEBHOOK,
}
"""Commands with a test of their own, below or elsewhere."""


@pytest.fixture(scope="module")
def pod(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pod]:
    with running_pod(tmp_path_factory.mktemp("pod")) as pod:
        yield pod


@pytest.fixture
def shell(pod: Pod, tmp_path: Path) -> Shell:
    return Shell(pod, tmp_path)


def schema_of(command: str) -> str:
    """The four config commands share one schema, and so do those of keys but one; every other command has its own."""
    if command in KEYS - {"keys plan"}:
        return "keys"
    return "config" if command.startswith("config ") else command.replace(" ", "-")


def check(name: str, found: Any) -> None:
    jsonschema.validate(found, SCHEMAS[name], cls=jsonschema.Draft202012Validator)


@pytest.mark.parametrize(("command", "words"), [(command, words) for command, runs in RUNS.items() for words in runs])
def test_output_fits_its_schema(shell: Shell, command: str, words: list[str]) -> None:
    check(schema_of(command), shell.json(*command.split(), *words, "--json"))


def test_a_derived_identity_fits(shell: Shell) -> None:
    with shell.pod.emulator.faults.inject(cloud="gcp", operation="introspect", status=404):
        found = shell.json("whoami", "gcp", *GCP, "--json")
    assert not found["confirmed"]
    check("whoami-gcp", found)


def test_a_requested_token_fits(shell: Shell, api_server: ApiServer) -> None:
    api_server.create_service_account("default", "json-output")
    words = ["--namespace", "default", "--service-account", "json-output", "--kubeconfig", str(api_server.kubeconfig)]
    check("token-request", shell.json("token", "request", *words, "--json"))


def test_what_the_publisher_prints_fits(shell: Shell) -> None:
    [key] = key_files(shell.folder, 1)
    given = ["--issuer", "https://issuer.wif.invalid", "--public-key", key.path, "--state", "state.json"]
    given += ["--to", f"file://{shell.folder}/out"]
    for words, status in (["--dry-run"], 3), ([], 0), (["--no-verify"], 0):
        found = json.loads(shell.run("issuer", "publish", *given, *words, "--json", status=status)[0])
        check("issuer-publish", found)
        assert found["exit_status"] == status
    file = shell.folder / "out/openid/v1/jwks"
    file.write_text(json.dumps({"keys": [dict(key.key.jwk), dict(key.key.jwk, kid="unknown")]}))
    found = json.loads(shell.run("issuer", "publish", *given, "--no-verify", "--json", status=3)[0])
    check("issuer-publish", found)
    assert found["targets"][0]["foreign"] == ["unknown"]
    managed = "https://oidc.eks.eu-central-1.amazonaws.com/id/0123456789ABCDEF0123456789ABCDEF"
    words = ["--issuer", managed, "--public-key", key.path]
    check("issuer-publish", shell.json("issuer", "publish", *words, "--json"))
    check("issuer-verify", json.loads(shell.run("issuer", "verify", *given, "--json", status=1)[0]))
    for words, done in ([], False), (["--yes"], True):
        found = shell.json("issuer", "unpublish", *given, *words, "--json")
        check("issuer-unpublish", found)
        assert found["done"] == done
    assert not file.exists()


def test_many_issuers_are_an_object_a_line(shell: Shell) -> None:
    issuers = {}
    for position, key in enumerate(key_files(shell.folder, 3)):
        target = {"url": f"file://{shell.folder}/out-{position}"}
        issuers[f"cluster-{position}"] = {
            "issuer": f"https://issuer.wif.invalid/{position}",
            "public_keys": [key.path if position else "missing.pub"],
            "state": f"state-{position}.json",
            "to": [target],
            "verify": False,
        }
    (shell.folder / "issuers.yaml").write_text(json.dumps({"issuers": issuers}))
    words = ["issuer", "publish", "--all", "--config-file", "issuers.yaml", "--json"]
    lines = shell.run(*words, status=2)[0].splitlines()
    assert [json.loads(line).get("name", "failed") for line in lines] == ["failed", "cluster-1", "cluster-2"]
    for line, schema in zip(lines, ("error", "issuer-publish", "issuer-publish"), strict=True):
        check(schema, json.loads(line))


@pytest.mark.parametrize("words", [[], ["--proxy"]])
def test_what_the_emulator_prints_fits(shell: Shell, words: list[str]) -> None:
    process = shell.start("emulator", *words, "--json")
    try:
        assert process.stdout is not None
        lines = list(iter(process.stdout.readline, "}\n"))
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
    check("emulator", json.loads("".join([*lines, "}"])))


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["exchange", "moon"], 2),
        (["exchange", "aws", "--role-arn", ROLE], 2),
        (["exchange", "aws", "--role-arn", ROLE, "--file", "missing"], 1),
        (["exchange", "aws", "--role-arn", ROLE.replace("app", "other"), "--file", "token"], 1),
        (["whoami", "azure", "--tenant-id", TENANT, "--client-id", TENANT, "--file", "token"], 1),
    ],
)
def test_an_error_fits_its_schema(shell: Shell, words: list[str], status: int) -> None:
    check("error", json.loads(shell.run(*words, "--json", status=status)[0]))


def test_every_command_has_a_schema_and_a_run() -> None:
    commands = {" ".join(path) for path, found in leaves(cli) if not isinstance(found, click.Group)}
    assert commands == {*RUNS, *SPECIAL}
    assert {*map(schema_of, commands), "error"} == set(SCHEMAS)


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_schema_is_closed_and_described_and_on_the_page(name: str) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMAS[name])
    for described in objects(SCHEMAS[name]):
        assert described["additionalProperties"] is False
        assert set(described["required"]) <= set(described["properties"])
        assert all(member["description"] for member in described["properties"].values())
    assert f"literalinclude}} schemas/{name}.json" in (REFERENCE / "json-output.md").read_text()


def objects(schema: Any) -> Iterator[dict[str, Any]]:
    """Every schema below this one that names properties."""
    if isinstance(schema, list):
        for item in schema:
            yield from objects(item)
    elif isinstance(schema, dict):
        if "properties" in schema and "type" in schema:
            yield schema
        for value in schema.values():
            yield from objects(value)
