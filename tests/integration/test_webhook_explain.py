"""``wif webhook explain`` offline, from manifests."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import subprocess
import sys
import termios
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.integration.explaining import (
    EMAIL,
    ROLE,
    SECRET,
    SIDECAR,
    SIDECAR_IMAGE,
    SPEC,
    TEMPLATE,
    THREE,
    Explain,
    account,
    controller,
    with_sidecar,
)
from wif.admission.patch import apply_patch

pytestmark = [pytest.mark.integration, pytest.mark.one_python]


@pytest.fixture
def explain(tmp_path: Path) -> Explain:
    return Explain(tmp_path)


def test_everything_about_a_deployment_is_said(explain: Explain) -> None:
    explain.write("all.yaml", account(THREE), controller())
    out, err = explain.run("--pod", "all.yaml")
    assert err == ""
    lines = [" ".join(line.split()) for line in out.splitlines()]
    for line in (
        "Deployment shop/web as the ServiceAccount web",
        "would be injected: gcp, aws, azure",
        f"aws {ROLE} eks: eks.amazonaws.com/role-arn",
        f"gcp {EMAIL} native: wif.internal/gcp.service-account",
        "sts.amazonaws.com 1h /var/run/secrets/eks.amazonaws.com/serviceaccount/token",
        "containers app, proxy",
        f"AWS_ROLE_ARN {ROLE}",
        "pfn no annotation cloud.google.com/… reads cloud.google.com/workload-identity-provider and "
        "cloud.google.com/service-account-email",
    ):
        assert line in lines, out


@pytest.mark.parametrize("show", ["patch", "pod", "diff"])
def test_patch_pod_and_difference_hide_the_pods_own_values(explain: Explain, show: str) -> None:
    explain.write("all.yaml", account(THREE), controller())
    plain = explain.run("--pod", "all.yaml")[0]
    out = explain.run("--pod", "all.yaml", "--show", show)[0]
    assert out.startswith(plain)
    more = out[len(plain) :]
    title, _, body = more.partition("\n")
    if show == "patch":
        patch = json.loads(body)
        assert patch == explain.json("--pod", "all.yaml")["pods"][0]["patch"]
        assert apply_patch({"metadata": TEMPLATE["metadata"], "spec": SPEC}, body.encode())
    elif show == "pod":
        pod = yaml.safe_load(body)
        assert pod["spec"]["containers"][0]["env"][0] == {"name": "PASSWORD", "value": "(not shown)"}
        assert pod == explain.json("--pod", "all.yaml", "--show", "pod")["pods"][0]["pod"]
    else:
        assert "+    - name: AWS_ROLE_ARN" in body
        assert "       value: (not shown)" in body
    assert title.strip() in ("JSON patch", "the pod afterwards", "difference")


@pytest.mark.parametrize("words", [[], ["--show", "patch"], ["--show", "pod"], ["--show", "diff"], ["--json"]])
def test_the_secret_of_a_pod_with_a_sidecar_is_in_no_output(explain: Explain, words: list[str]) -> None:
    """As in every test here (:class:`Explain`); the sidecar itself is led nowhere and left out of nothing."""
    led = with_sidecar(explain)
    led["spec"]["initContainers"][0]["args"] = ["put right"]
    explain.write("led.yaml", account(SIDECAR), led)
    out, err = explain.run("--pod", "led.yaml", *SIDECAR_IMAGE, *words)
    assert err == ""
    assert "(the pod's own)" in out
    assert "left out" not in out
    assert "(random" not in out


def test_every_object_of_a_file_is_explained(explain: Explain) -> None:
    nightly = {
        "kind": "CronJob",
        "metadata": {"name": "nightly", "namespace": "shop"},
        "spec": {"jobTemplate": {"spec": {"template": TEMPLATE}}},
    }
    kinds = ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "ReplicationController", "Job")
    pod = {"kind": "Pod", "metadata": {"name": "web"}, "spec": SPEC}
    service = {"kind": "Service", "metadata": {"name": "web"}}
    listed = {"kind": "List", "items": [account(THREE), service, pod]}
    explain.write("all.yaml", *(controller(kind) for kind in kinds), nightly, listed)
    found = explain.json("--pod", "all.yaml")["pods"]
    assert [each["kind"] for each in found] == [*kinds, "CronJob", "Pod"]
    assert {each["namespace"] for each in found} == {"shop"}  # the one namespace that the others name
    assert all({row["cloud"] for row in each["identities"]} >= {"aws", "gcp"} for each in found)
    assert found[1]["origin"].startswith("all.yaml:")


def test_stdin_and_several_files_and_the_platform(explain: Explain) -> None:
    explain.write("sa.yaml", account({}))
    config = {
        "serviceAccounts": [
            {"namespace": "sh*", "serviceAccount": "*", "annotations": {"eks.amazonaws.com/role-arn": ROLE}}
        ]
    }
    explain.write(
        "platform.yaml",
        {"kind": "ConfigMap", "metadata": {"name": "platform"}, "data": {"config.yaml": yaml.safe_dump(config)}},
    )
    words = ["--pod", "-", "--service-account", "sa.yaml", "--platform", "platform.yaml"]
    (found,) = explain.json(*words, stdin=json.dumps(controller()))["pods"]
    assert found["identities"][0]["source"] == "platform"
    assert found["origin"] == "stdin:1"


def test_a_missing_account_is_said_with_what_to_pass(explain: Explain) -> None:
    explain.write("pod.yaml", controller())
    out = explain.run("--pod", "pod.yaml")[0]
    assert "the annotations of the ServiceAccount web are not known" in out
    assert "--service-account FILE" in out
    assert "kubectl get serviceaccount web --namespace shop -o yaml" in out
    assert explain.json("--pod", "pod.yaml")["pods"][0]["service_account_state"] == "unknown"


def test_settings_count(explain: Explain) -> None:
    explain.write("all.yaml", account(THREE), controller())
    words = ["--pod", "all.yaml", "--dialect", "eks", "--aws-region", "eu-central-1", "--aws-token-expiration", "2h"]
    (found,) = explain.json(*words)["pods"]
    assert [row["cloud"] for row in found["identities"]] == ["aws"]
    assert found["tokens"][0]["seconds"] == 7200
    assert {"name": "AWS_REGION", "value": "eu-central-1"} in found["containers"][0]["variables"]


def test_an_untouched_pod_and_one_that_has_it_all_are_said_in_a_line(explain: Explain) -> None:
    explain.write("all.yaml", account(THREE), controller("StatefulSet"))
    after = explain.json("--pod", "all.yaml", "--show", "pod")["pods"][0]["pod"]
    explain.write("after.yaml", account(THREE), after)
    out = explain.run("--pod", "after.yaml", "--show", "diff")[0]
    assert "nothing to do: the pod has all of it already" in out
    assert "difference" not in out
    bare: dict[str, Any] = {"template": {"spec": SPEC}}
    explain.write("none.yaml", account({}), controller(**bare), controller("Job", **bare))
    assert explain.run("--pod", "none.yaml")[0].count("nothing is injected: the pod stays as it is") == 2


def test_a_pod_of_another_account_says_what_is_removed(explain: Explain) -> None:
    """Somebody changed the account between two calls: the first one's injection goes."""
    pod = {"kind": "Pod", "metadata": {"name": "web", "namespace": "shop"}, "spec": SPEC}
    explain.write("all.yaml", account({"eks.amazonaws.com/role-arn": ROLE}), pod)
    after = explain.json("--pod", "all.yaml", "--show", "pod")["pods"][0]["pod"]
    after["spec"]["serviceAccountName"] = "other"
    other = account({})
    other["metadata"]["name"] = "other"
    explain.write("after.yaml", account({"eks.amazonaws.com/role-arn": ROLE}), other, after)
    out = explain.run("--pod", "after.yaml")[0]
    assert "removed, of an injection for another ServiceAccount" in out
    assert "volume aws-iam-token" in out
    assert "nothing new; what was injected before is changed" in out


def test_an_account_file_without_an_account_is_a_warning(explain: Explain) -> None:
    explain.write("pod.yaml", controller())
    err = explain.run("--pod", "pod.yaml", "--service-account", "pod.yaml")[1]
    assert err == "warning: no ServiceAccount is in what --service-account names\n"


def test_on_a_terminal_it_is_a_table_with_colours(explain: Explain) -> None:
    name = f"{explain.folder}/all.yaml"
    explain.write("all.yaml", account(THREE), controller())
    leader, follower = pty.openpty()
    termios.tcsetwinsize(follower, (50, 200))
    command = [sys.executable, "-m", "wif", "webhook", "explain", "--pod", name, "--show", "diff"]
    environment = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS")}
    process = subprocess.Popen(command, stdout=follower, stdin=subprocess.DEVNULL, env={**environment, "TERM": "xterm"})
    os.close(follower)
    shown = b""
    with contextlib.suppress(OSError):  # EIO: the other end is closed
        while chunk := os.read(leader, 65_536):
            shown += chunk
    os.close(leader)
    assert process.wait(timeout=30) == 0
    text = shown.decode()
    assert "\x1b[32m" in text
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    assert re.search(r"aws +arn:aws:iam::111122223333:role/web +eks: eks.amazonaws.com/role-arn", plain)
    assert SECRET not in text


def test_a_refused_pod_ends_with_one(explain: Explain) -> None:
    explain.write("all.yaml", account({"cloud.google.com/service-account-email": EMAIL}), controller())
    out, err = explain.run("--pod", "all.yaml", status=1)
    assert "REFUSED with status 400" in out
    assert err.startswith("error: Deployment shop/web would be refused: ServiceAccount shop/web")
    found = explain.json("--pod", "all.yaml", status=1)
    assert (found["refused"], found["exit_status"], found["pods"][0]["allowed"]) == (1, 1, False)
    assert found["pods"][0]["refusal"]["code"] == 400


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kind: Pod\nmetadata: {name: x\nspec: [\n", "pod.yaml:3:5: no YAML"),
        ("kind: Pod\nspec: {containers: [{name: a, env: [x]}]}", "pod.yaml:1: Pod default/(without a name) cannot be"),
        ("---\nkind: Service\nmetadata: {name: s}", "pod.yaml has no pod, and nothing that makes pods, but: Service s"),
        ("", "pod.yaml has no pod, and nothing that makes pods: it is empty"),
        ("a: b\n---\nkind: Pod", "pod.yaml:1: expected a Kubernetes object"),
        ("a: &a [x, x]\nb: &b [*a, *a]\nkind: Pod\nspec: *b", "pod.yaml:1: spec is no mapping"),
        ("\x07", "pod.yaml: no YAML"),
        ("[" * 1000, "pod.yaml: no YAML: it is nested too deep"),
        ("kind: !!python/object:os.system x", "no YAML: could not determine a constructor"),
        (
            "a: &a [1,2,3,4,5,6,7,8,9]\n"
            + "".join(f"{y}: &{y} [{','.join([f'*{x}'] * 9)}]\n" for x, y in zip("abcdefg", "bcdefgh", strict=True)),
            "pod.yaml:1: the document has more than 500000 values",
        ),
    ],
)
def test_what_is_wrong_with_a_file_is_said_with_its_place(explain: Explain, text: str, message: str) -> None:
    (explain.folder / "pod.yaml").write_text(text)
    err = explain.run("--pod", "pod.yaml", status=2)[1]
    assert message in err
    assert "\nhint: " in err


def test_files_that_cannot_be_read_or_are_too_large(explain: Explain) -> None:
    assert "cannot be read" in explain.run("--pod", "missing.yaml", status=2)[1]
    (explain.folder / "large.yaml").write_text("#" * (4 * 1024 * 1024 + 1))
    assert "larger than 4 MiB" in explain.run("--pod", "large.yaml", status=2)[1]


def test_a_platform_file_that_is_none_is_refused(explain: Explain) -> None:
    explain.write("pod.yaml", controller())
    explain.write("platform.yaml", {"kind": "ConfigMap", "data": {"config.yaml": {"a": 1}}})
    assert "no mapping of texts" in explain.run("--pod", "pod.yaml", "--platform", "platform.yaml", status=2)[1]
    assert "has 0 ConfigMaps" in explain.run("--pod", "pod.yaml", "--platform", "pod.yaml", status=2)[1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "Missing option '--pod'"),
        (["--pod", "-", "--service-account", "-"], "stdin (-) can be read once"),
        (["--pod", "x", "--kubeconfig", "k"], "go with --live"),
        (["--pod", "x", "--platform-config", "a/b"], "go with --live"),
        (["--pod", "x", "--live", "--platform-config", "a"], "is not NAMESPACE/NAME"),
        (["--pod", "x", "--live", "--platform-config", "a/b", "--platform", "c"], "contradict each other"),
    ],
)
def test_options_that_do_not_go_together(explain: Explain, words: list[str], message: str) -> None:
    assert message in explain.run(*words, status=2)[1]


def test_a_date_is_a_text_as_kubectl_reads_it(explain: Explain) -> None:
    text = yaml.safe_dump(account(THREE)) + "---\nkind: Pod\nmetadata: {name: web, labels: {day: 2026-01-01}}\n"
    (explain.folder / "pod.yaml").write_text(text + f"spec: {json.dumps(SPEC)}")
    (found,) = explain.json("--pod", "pod.yaml", "--show", "pod")["pods"]
    assert found["pod"]["metadata"]["labels"]["day"] == "2026-01-01"
