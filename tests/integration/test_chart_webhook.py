"""The chart's webhook: what it registers is what ``wif webhook render`` prints, and the real API server takes it all."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.integration.charts import CHART, RELEASE, Cluster, cluster, helm, rendered, templated, with_crds

__all__ = ["cluster", "with_crds"]  # fixtures

pytestmark = [pytest.mark.integration, pytest.mark.one_python]

PEM = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"


def _values(**webhook: Any) -> dict[str, Any]:
    return {"publisher": {"enabled": False}, "webhook": {"enabled": True, **webhook}}


# -- registration and guards -------------------------------------------------------------------------------------------

Case = tuple[Mapping[str, Any], Sequence[str]]
"""Values below ``webhook``, and the flags of ``wif webhook render`` for the same."""

CASES: Mapping[str, Case] = {
    "default": ({}, ()),
    "enforced": ({"guards": {"enforce": True}}, ("--enforce",)),
    "tenant": (
        {"watchNamespaces": ["team-a", "team-b"]},
        ("--watch-namespace=team-a", "--watch-namespace=team-b"),
    ),
    "compat eks": (
        {"settings": {"compat": "eks", "dialects": ["eks"], "aws_prefix": "irsa.example.com"}},
        ("--compat=eks", "--dialect=eks", "--aws-prefix=irsa.example.com"),
    ),
    "azure alone": (
        {
            "settings": {
                "dialects": ["azure"],
                "azure_token_endpoint": {"annotation_suffix": "p", "audience": "api://p"},
            },
            "registration": {"objectSelector": {"matchLabels": {"team": "a"}}, "failurePolicy": "Fail"},
        },
        (
            "--dialect=azure",
            '--azure-token-endpoint={"annotation_suffix":"p","audience":"api://p"}',
            '--object-selector={"matchLabels":{"team":"a"}}',
            "--failure-policy=Fail",
        ),
    ),
    "cert-manager": (
        {"tls": {"source": "cert-manager"}},
        ("--cert-manager=NAMESPACE/docs-webhook",),
    ),
    "own files": ({"tls": {"source": "secret", "caBundle": PEM}}, ("--ca-file=ca.pem",)),
    "everything else": (
        {
            "settings": {
                "prefix": "ids.example.com",
                "gcp_provider": "projects/1/locations/global/workloadIdentityPools/p/providers/k",
                "gcp_audience": "it's \\ here",
                "aws_audience": "aws",
                "aws_container_credentials": {"identities": [["a", "b"]], "audience": "agent"},
            },
            "registration": {
                "timeoutSeconds": 9,
                "reinvocationPolicy": "Never",
                "matchPolicy": "Exact",
                "excludedNamespaces": ["kube-public", "NAMESPACE"],
                "namespaceSelector": {
                    "matchLabels": {"injected": "yes"},
                    "matchExpressions": [{"key": "quiet", "operator": "DoesNotExist"}],
                },
                "validation": False,
            },
        },
        (
            "--prefix=ids.example.com",
            "--gcp-provider=projects/1/locations/global/workloadIdentityPools/p/providers/k",
            "--gcp-audience=it's \\ here",
            "--aws-audience=aws",
            '--aws-container-credentials={"identities":[["a","b"]],"audience":"agent"}',
            "--timeout=9",
            "--reinvocation-policy=Never",
            "--match-policy=Exact",
            "--exclude-namespace=kube-public",
            "--exclude-namespace=NAMESPACE",
            '--namespace-selector={"matchLabels":{"injected":"yes"},'
            '"matchExpressions":[{"key":"quiet","operator":"DoesNotExist"}]}',
            "--no-validation",
        ),
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_registration_and_guards_are_what_render_prints(tmp_path: Path, case: Case) -> None:
    values, flags = case
    _assert_equal(values, flags, tmp_path)


@pytest.mark.parametrize("number", [1, 2, 3])
def test_the_guards_are_what_render_prints_for_every_set_of_dialects(tmp_path: Path, number: int) -> None:
    for dialects in itertools.combinations(("native", "pfn", "eks", "azure"), number):
        _assert_equal({"settings": {"dialects": list(dialects)}}, [f"--dialect={each}" for each in dialects], tmp_path)


def _assert_equal(values: Mapping[str, Any], flags: Sequence[str], folder: Path) -> None:
    text = json.dumps(_values(**values)).replace("NAMESPACE", "ns")
    made = [each for each in rendered("ns", json.loads(text), folder) if "admissionregistration" in each["apiVersion"]]
    printed = _render([each.replace("NAMESPACE", "ns") for each in flags], folder)
    assert len(made) == len(printed) > 6
    ours, theirs = (
        dict(_leaves({f"{each['kind']} {each['metadata']['name']}": each for each in objects}))
        for objects in (made, printed)
    )
    assert {path: value for path, value in ours.items() if theirs.get(path) != value} == {}
    assert ours.keys() == theirs.keys()


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Each scalar with its path: a difference is shown as that and no more."""
    if value in ({}, []) or not isinstance(value, dict | list):
        yield path, value
        return
    for name, member in value.items() if isinstance(value, dict) else enumerate(value):
        yield from _leaves(member, f"{path}/{name}")


def _render(flags: Sequence[str], folder: Path) -> list[dict[str, Any]]:
    (folder / "ca.pem").write_text(PEM)
    words = ["wif", "webhook", "render", "--json", f"--release={RELEASE}", "--namespace=ns"]
    words += ["--label=app.kubernetes.io/managed-by=Helm", *flags]
    done = subprocess.run(
        [sys.executable, "-m", *words], cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    items: list[dict[str, Any]] = json.loads(done.stdout)["items"]
    return items
