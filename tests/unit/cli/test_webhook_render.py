"""What ``wif webhook render`` prints, byte for byte, and what it refuses."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from wif.cli.webhook_render import render_command
from wif.errors import ConfigurationError

GOLDEN = Path(__file__).parents[2] / "data" / "webhook-render"
POLICY = ("--mutating-admission-policy", "--release", "r", "--namespace", "n")

CASES = {
    "default": (),
    "everything": (
        *("--release", "blue", "--namespace", "identity", "--service", "hook", "--port", "8443"),
        *("--cert-manager", "identity/hook", "--failure-policy", "Fail", "--timeout", "10s"),
        *("--reinvocation-policy", "Never", "--match-policy", "Exact", "--enforce", "--label", "team=platform"),
        *("--exclude-namespace", "kube-system", "--exclude-namespace", "identity", "--exclude-namespace", "cni"),
        *("--namespace-selector", '{"matchLabels": {"wif": "on"}}'),
        *("--object-selector", '{"matchExpressions": [{"key": "wif", "operator": "NotIn", "values": ["off"]}]}'),
        *("--prefix", "id.example.com", "--aws-audience", "it's"),
    ),
    "tenant": ("--release", "team-a", "--namespace", "team-a-wif", "--watch-namespace", "team-a", "--no-validation"),
    "azure": ("--dialect", "azure", "--url", "https://127.0.0.1:8443"),
    "policy-eks": (*POLICY, "--dialect", "eks"),
    "policy-native": (*POLICY, "--dialect", "native", "--azure-tenant-id", "11111111-2222-3333-4444-555555555555"),
}


@pytest.fixture(autouse=True)
def quiet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("WIF_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def run(*words: str) -> Result:
    return CliRunner().invoke(render_command, words, catch_exceptions=True)


def printed(*words: str) -> str:
    done = run(*words)
    assert done.exit_code == 0, done.output
    return done.output


def refusal(*words: str) -> ConfigurationError:
    done = run(*words)
    assert isinstance(done.exception, ConfigurationError), done.output
    return done.exception


@pytest.mark.parametrize("name", CASES)
def test_what_is_printed(name: str) -> None:
    file = GOLDEN / f"{name}.yaml"
    assert printed(*CASES[name]) == file.read_text()


def test_json_is_one_list_of_the_same_objects() -> None:
    found = json.loads(printed("--json"))
    assert (found["apiVersion"], found["kind"]) == ("v1", "List")
    assert found["items"] == list(yaml.safe_load_all(printed()))


def test_the_fixed_annotations_are_guarded_in_every_form() -> None:
    for words in CASES.values():
        names = [each["metadata"]["name"] for each in yaml.safe_load_all(printed(*words))]
        assert sum(name.endswith("-fixed-annotations") for name in names) == 2


def test_the_certificates_go_into_the_registration(tmp_path: Path) -> None:
    file = tmp_path / "ca.crt"
    file.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    first: dict[str, Any] = next(iter(yaml.safe_load_all(printed("--ca-file", str(file)))))
    assert all(each["clientConfig"]["caBundle"].startswith("LS0t") for each in first["webhooks"])


@pytest.mark.parametrize(
    "content",
    [
        "-----BEGIN CERTIFICATE-----\n-----BEGIN PRIVATE KEY-----\n",
        "hello",
        "-----BEGIN CERTIFICATE-----" + "x" * 1024 * 1024,
    ],
)
def test_a_file_that_is_no_bundle_of_certificates_is_refused(tmp_path: Path, content: str) -> None:
    file = tmp_path / "ca.crt"
    file.write_text(content)
    assert refusal("--ca-file", str(file)).code == "config-invalid"


def test_a_file_that_is_not_there_is_said() -> None:
    error = refusal("--ca-file", "absent.crt")
    assert error.code == "file-unusable"
    assert "absent.crt" in error.message


@pytest.mark.parametrize(
    "words",
    [
        ("--namespace-selector", "{"),
        ("--object-selector", "[]"),
        ("--object-selector", '{"app": "x"}'),
        ("--label", "x"),
        ("--label", "=x"),
        ("--failure-policy", "Perhaps"),
    ],
)
def test_what_cannot_be_read_is_wrong_usage(words: tuple[str, str]) -> None:
    done = run(*words)
    assert done.exit_code == 2
    assert words[0] in done.output


def test_a_policy_that_cel_cannot_express_is_refused_with_the_way_out() -> None:
    error = refusal("--mutating-admission-policy")
    assert error.code == "policy-unsupported"
    assert "--azure-layout v1.5" in str(error.hint)


def test_the_peers_defaults_count() -> None:
    assert "--gcp-mode direct" in str(
        refusal("--mutating-admission-policy", "--compat", "pfn", "--dialect", "pfn").hint
    )
