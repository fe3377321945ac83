"""``wif run``: real SDKs as children, led by nothing but their environment; identities, tokens, and who may ask."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time

import pytest

from tests.integration.led_pod import ACCOUNT, CLIENT, PROVIDER, ROLE, TENANT, LedPod, pod
from tests.integration.run_processes import WAIT_SECONDS, Runner, runner, wif_run

__all__ = ["pod", "runner"]  # fixtures

pytestmark = [pytest.mark.integration]

one_python = pytest.mark.one_python
LEFT_OUT = {
    "AWS_ROLE_ARN",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AZURE_FEDERATED_TOKEN_FILE",
    "GOOGLE_APPLICATION_CREDENTIALS",
}

GOOGLE_S_OWN = {
    "CLOUDSDK_ACTIVE_CONFIG_NAME",
    "CLOUDSDK_AUTH_ACCESS_TOKEN",
    "CLOUDSDK_AUTH_DISABLE_CREDENTIALS",
    "CLOUDSDK_AUTH_IMPERSONATE_SERVICE_ACCOUNT",
    "CLOUDSDK_CORE_ACCOUNT",
    "GCLOUD_KEYFILE_JSON",
    "GOOGLE_CLOUD_KEYFILE_JSON",
    "GOOGLE_CREDENTIALS",
    "GOOGLE_IMPERSONATE_SERVICE_ACCOUNT",
    "GOOGLE_OAUTH_ACCESS_TOKEN",
}
"""By these gcloud and Terraform are somebody else, or nobody."""

AWS = ("--aws-role-arn", ROLE, "--aws-region", "eu-west-1")
GCP = ("--gcp-provider", PROVIDER, "--gcp-service-account", ACCOUNT, "--gcp-project", "wif-local")
AZURE = ("--azure-tenant-id", TENANT, "--azure-client-id", CLIENT)

BOTO3 = """
import boto3, json
session = boto3.Session()
arn = session.client("sts").get_caller_identity()["Arn"]
print(json.dumps([session.get_credentials().method, arn, session.region_name]))
"""
KEYS = """
import json, os, urllib.request
url, path = os.environ["AWS_CONTAINER_CREDENTIALS_FULL_URI"], os.environ["AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"]
request = urllib.request.Request(url, headers={"Authorization": open(path).read()})
with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request) as answer:
    print(json.dumps([url, os.environ.get("AWS_REGION"), json.load(answer)["Expiration"]]))
"""
"""What an SDK does, without one."""
GOOGLE = """
import google.auth, google.auth.transport.requests, json
credentials, project = google.auth.default()
credentials.refresh(google.auth.transport.requests.Request())
print(json.dumps([type(credentials).__module__, credentials.service_account_email, project, bool(credentials.token)]))
"""
BOTO_KEYS = "[Credentials]\naws_access_key_id = AKIAFOREIGN\naws_secret_access_key = x\n"
EC2_KEYS = "AWSAccessKeyId=AKIAFOREIGN\nAWSSecretKey=x\n"
AS_TWO_USERS = """
import json, subprocess
program = '''
import json, os, urllib.error, urllib.request
path = "/computeMetadata/v1/instance/service-accounts/default/token"
url = "http://" + os.environ["GCE_METADATA_HOST"] + path
asked = urllib.request.Request(url, headers={"Metadata-Flavor": "Google"})
try:
    answer = urllib.request.build_opener(urllib.request.ProxyHandler({})).open(asked)
    print(answer.status, *json.load(answer))
except urllib.error.HTTPError as error:
    print(error.code, error.read().decode())
'''
said = [
    subprocess.run(["python3", "-c", program], check=True, capture_output=True, text=True, cwd="/", **who).stdout
    for who in ({}, {"user": 65534, "group": 65534, "extra_groups": []})
]
print(json.dumps([[said[0][:3], said[0].split()[1]], [said[1][:3], said[1][4:46]]]))
"""
ENTRA = """
import json
from azure.identity import DefaultAzureCredential
credential = DefaultAzureCredential()
token = credential.get_token("https://management.azure.com/.default")
print(json.dumps([type(credential._successful_credential).__name__, bool(token.token)]))
"""


def file(pod: LedPod, cloud: str) -> tuple[str, str]:
    return (f"--{cloud}-file", str(pod.tokens / cloud))


def test_boto3_by_flags(pod: LedPod, runner: Runner) -> None:
    environ = runner.environment(with_identities=False)
    method, arn, region = runner.python(*AWS, *file(pod, "aws"), program=BOTO3, environ=environ)
    assert (method, region) == ("container-role", "eu-west-1")
    assert ":assumed-role/app/" in arn


def test_google_auth_by_flags(pod: LedPod, runner: Runner) -> None:
    found = runner.python(*GCP, *file(pod, "gcp"), program=GOOGLE, environ=runner.environment(with_identities=False))
    assert found == ["google.auth.compute_engine.credentials", ACCOUNT, "wif-local", True]


def test_azure_identity_by_flags(pod: LedPod, runner: Runner) -> None:
    found = runner.python(*AZURE, *file(pod, "azure"), program=ENTRA, environ=runner.environment(with_identities=False))
    assert found == ["ManagedIdentityCredential", True]


def test_all_three_by_the_webhooks_variables(runner: Runner) -> None:
    """What the webhooks set would make each SDK exchange the token itself; here none does."""
    out, _ = runner.run("--", sys.executable, "-c", BOTO3 + GOOGLE + ENTRA)
    found = [json.loads(line)[0] for line in out.splitlines()]
    assert found == ["container-role", "google.auth.compute_engine.credentials", "ManagedIdentityCredential"]


def test_what_is_left_out_is_said(runner: Runner) -> None:
    out, err = runner.run("--", sys.executable, "-c", "import os, json; print(json.dumps(dict(os.environ)))")
    environ = json.loads(out)
    assert not LEFT_OUT & set(environ)
    assert all(name in err for name in LEFT_OUT)
    assert environ["no_proxy"] == environ["NO_PROXY"] == "localhost,127.0.0.1"
    quiet = runner.run("--log-level", "error", "--", "true")[1]
    assert quiet == ""


def test_what_makes_gcloud_and_terraform_somebody_else_is_left_out(pod: LedPod, runner: Runner) -> None:
    environ = runner.environment(with_identities=False) | dict.fromkeys(GOOGLE_S_OWN, "true")
    program = "import os, json; print(json.dumps(list(os.environ)))"
    out, err = runner.run(*GCP, *file(pod, "gcp"), "--", sys.executable, "-c", program, environ=environ)
    assert not GOOGLE_S_OWN & set(json.loads(out))
    assert all(name in err for name in GOOGLE_S_OWN)
    of_aws = runner.python(*AWS, *file(pod, "aws"), program=program, environ=environ)
    assert set(of_aws) >= GOOGLE_S_OWN, "no identity of Google is served"


@pytest.mark.parametrize(
    ("variable", "place", "text", "told"),
    [
        ("AWS_CREDENTIAL_FILE", "keys", EC2_KEYS, "left out of the program's environment: AWS_CREDENTIAL_FILE"),
        ("BOTO_CONFIG", "keys", BOTO_KEYS, "keys is kept from the program"),
        (None, ".boto", BOTO_KEYS, ".boto is kept from the program"),
    ],
    ids=["AWS_CREDENTIAL_FILE", "BOTO_CONFIG", "~/.boto"],
)
def test_keys_that_boto3_looks_for_before_an_endpoint(
    pod: LedPod, runner: Runner, variable: str | None, place: str, text: str, told: str
) -> None:
    path = runner.folder / place
    path.write_text(text)
    own = {"HOME": str(runner.folder), **({variable: str(path)} if variable else {})}
    environ = runner.environment(with_identities=False) | own
    out, err = runner.run(*AWS, *file(pod, "aws"), "--", sys.executable, "-c", BOTO3, environ=environ)
    assert json.loads(out)[0] == "container-role"
    assert told in err


@one_python
@pytest.mark.skipif(shutil.which("unshare") is None or os.geteuid() != 0, reason="only root can show another /etc")
def test_keys_of_the_whole_machine(pod: LedPod, runner: Runner) -> None:
    (runner.folder / "boto.cfg").write_text(BOTO_KEYS)
    script = 'mkdir -p etc && cp -a /etc/. etc && cp boto.cfg etc/boto.cfg && mount --bind etc /etc && exec "$@"'
    changed = ["unshare", "--mount", "/bin/sh", "-c", script, "sh"]
    if subprocess.run([*changed, "true"], cwd=runner.folder, capture_output=True, check=False).returncode:
        pytest.skip("this machine lets nobody show another /etc")
    done = subprocess.run(
        [*changed, *wif_run(*AWS, *file(pod, "aws"), "--", sys.executable, "-c", BOTO3)],
        env=runner.environment(with_identities=False),
        cwd=runner.folder,
        capture_output=True,
        text=True,
        timeout=WAIT_SECONDS,
        check=False,
    )
    assert "/etc/boto.cfg is kept from the program" in done.stderr
    assert json.loads(done.stdout)[0] == "container-role"


def test_identities_by_the_settings_file(pod: LedPod, runner: Runner) -> None:
    identity = {"cloud": "aws", "role_arn": ROLE, "token_file": str(pod.tokens / "aws")}
    other = identity | {"role_arn": ROLE.replace("app", "other")}
    section = {"identities": {"a": other, "b": identity}, "listen": ["127.0.0.1:8787"], "aws_container": True}
    path = runner.folder / "wif.yaml"
    path.write_text(json.dumps({"sidecar": section}))
    environ = runner.environment(with_identities=False)
    err = runner.run("--", "true", status=2, environ=environ)[1]
    assert "--default aws=NAME" in err
    assert runner.run("--wait", "0", "--default", "aws=b", "--", "true", environ=environ)
    path.write_text(json.dumps({"sidecar": {"identities": {"b": identity}}}))
    assert "/aws" in runner.python(program=KEYS, environ=environ)[0]


def test_identities_by_the_settings_of_exchange(pod: LedPod, runner: Runner) -> None:
    environ = runner.environment(with_identities=False) | {
        "WIF_AWS_ROLE_ARN": ROLE,
        "WIF_TOKEN_FILE": os.path.relpath(pod.tokens / "aws", runner.folder),
        "AWS_REGION": "eu-north-1",
    }
    _, region, expires = runner.python(program=KEYS, environ=environ)
    assert (region, bool(expires)) == ("eu-north-1", True)


def test_a_flag_over_the_webhooks_variables(runner: Runner) -> None:
    """As ``wif exchange aws --region`` does: what no flag says comes from the variables."""
    shown = json.loads(runner.run("--aws-region", "us-east-2", "--print-environment", "--json")[0])
    assert shown["variables"]["AWS_REGION"] == "us-east-2"
    assert "IDENTITY_ENDPOINT" not in shown["variables"], "a flag names who it is about"


@one_python
@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "no identity is named\nhint: --aws-role-arn, --gcp-provider or --azure-tenant-id with --azure-client-id;"),
        (
            ("--aws-role-arn", ROLE),
            "_TOKEN_FILE is set\nhint: --file PATH or --token-command COMMAND\n",
        ),
        (("--aws-role-arn", "no-arn"), "\nhint: for the token --file PATH or --token-command COMMAND; correct it"),
        (("--identities", "[1]"), "identities"),
        (("--aws-region", "eu-west-1"), "--aws-role-arn is needed"),
        (("--azure-client-id", CLIENT), "--azure-tenant-id is needed"),
        (("--azure-authority-host", "x"), "--azure-tenant-id and --azure-client-id are needed"),
        (("--aws-role-arn", "no-arn", "--file", "token"), "no-arn"),
        (("--aws-role-arn", ROLE, "--file", "-"), "standard input"),
        (("--token-command", "'"), "--token-command"),
        (("--token-command", " ", *AWS), "--token-command is empty"),
        (("--nonsense",), "--nonsense"),
    ],
)
def test_wrong_usage(runner: Runner, words: tuple[str, ...], told: str) -> None:
    assert told in runner.run(*words, "--", "true", status=2, environ=runner.environment(with_identities=False))[1]


@one_python
def test_no_program(runner: Runner) -> None:
    assert "no program is named" in runner.run(status=2)[1]


def test_an_identity_that_is_served_to_nobody_is_told(pod: LedPod, runner: Runner) -> None:
    words = (*AWS, *file(pod, "aws"), *AZURE, *file(pod, "azure"), "--no-app-service", "--", "true")
    err = runner.run(*words, environ=runner.environment(with_identities=False))[1]
    assert "the identity azure (azure) is served to nobody" in err


def test_the_environment_is_shown_without_secrets(runner: Runner) -> None:
    out, _ = runner.run("--print-environment")
    assert "IDENTITY_HEADER=(secret)\n" in out
    assert "# AWS_WEB_IDENTITY_TOKEN_FILE is left out: it makes SDKs assume the role themselves\n" in out
    told = out.splitlines()
    assert told[0] == "# Set for the program. Port, directory and secrets are new in each run, and gone at its end."
    assert told.index("# Set here, and kept from the program:") == len(told) - len(LEFT_OUT) - 1
    names = [line.partition("=")[0] for line in told if "=" in line]
    assert names.index("no_proxy") == names.index("NO_PROXY") + 1
    shown = json.loads(runner.run("--print-environment", "--json")[0])
    assert set(shown["absent"]) == LEFT_OUT
    assert shown["variables"]["IDENTITY_HEADER"] == "(secret)"


def test_a_token_command(pod: LedPod, runner: Runner) -> None:
    count = runner.folder / "count"
    script = runner.folder / "mint"
    script.write_text(f"#!/bin/sh\necho x >> {count}\ncat {pod.tokens / 'aws'}\n")
    script.chmod(0o755)
    environ = runner.environment(with_identities=False)
    words = ("--token-command", f"{script} 'an argument'", "--aws-role-arn", ROLE)
    assert runner.python(*words, program=KEYS, environ=environ)[2]
    assert count.read_text() == "x\n"


@one_python
@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("false", "ended with status 1\nhint: run it by hand; what it printed on stderr stands above\n"),
        ("/nowhere", "cannot be run: No such file or directory\nhint: run it by hand"),
        ("echo no-token", "expected the three of a signed JWT\nhint: the command must print one ServiceAccount token"),
        ("echo", "is empty, expected a JWT\nhint: the command must print one ServiceAccount token"),
    ],
)
def test_a_token_command_that_fails(runner: Runner, command: str, told: str) -> None:
    environ = runner.environment(with_identities=False)
    err = runner.run("--token-command", command, "--aws-role-arn", ROLE, "--", "true", status=1, environ=environ)[1]
    assert told in err


@one_python
def test_a_file_that_is_not_there(runner: Runner) -> None:
    words = (*AWS, "--file", "/nowhere", "--", "true")
    err = runner.run(*words, status=1, environ=runner.environment(with_identities=False))[1]
    assert "the token file /nowhere is not there\nhint: check the path, or have a command print the token" in err


def test_the_option_wins_over_the_file_that_an_identity_names(pod: LedPod, runner: Runner) -> None:
    identity = {"cloud": "aws", "role_arn": ROLE, "token_file": "/nowhere"}
    (runner.folder / "wif.yaml").write_text(json.dumps({"sidecar": {"identities": {"a": identity}}}))
    environ = runner.environment(with_identities=False)
    assert runner.python("--file", str(pod.tokens / "aws"), program=KEYS, environ=environ)[2]
    assert runner.python("--token-command", f"cat {pod.tokens / 'aws'}", program=KEYS, environ=environ)[2]
    by_webhook = environ | {"AWS_ROLE_ARN": ROLE, "AWS_WEB_IDENTITY_TOKEN_FILE": "/nowhere"}
    (runner.folder / "wif.yaml").unlink()
    assert runner.python("--file", str(pod.tokens / "aws"), program=KEYS, environ=by_webhook)[2]


@one_python
def test_flags_beside_a_section_that_do_not_say_who(runner: Runner) -> None:
    identity = {"cloud": "aws", "role_arn": ROLE, "token_file": "/nowhere"}
    (runner.folder / "wif.yaml").write_text(json.dumps({"sidecar": {"identities": {"a": identity}}}))
    words = ("--aws-file", "/some", "--aws-region", "eu-west-1", "--", "true")
    err = runner.run(*words, status=2, environ=runner.environment(with_identities=False))[1]
    told = "add --aws-role-arn, or leave out --aws-region and --aws-file: the identities of `sidecar` are used"
    assert f"--aws-role-arn is needed\nhint: {told}\n" in err


def test_a_google_identity_by_flags_is_served_beside_a_section_as_well(pod: LedPod, runner: Runner) -> None:
    identity = {"cloud": "aws", "role_arn": ROLE, "token_file": "/nowhere"}
    (runner.folder / "wif.yaml").write_text(json.dumps({"sidecar": {"identities": {"a": identity}}}))
    words = (*GCP, *file(pod, "gcp"), "--print-environment")
    assert "GCE_METADATA_HOST" in runner.run(*words, environ=runner.environment(with_identities=False))[0]


@one_python
def test_the_help_promises_nothing_that_is_refused(runner: Runner) -> None:
    told = " ".join(runner.run("--help")[0].split())
    assert "stdin" not in told
    assert "of the pod" not in told
    assert "open to every process of this user, and of the machine where" in told
    assert "--file, --token-file TEXT Subject token of every identity" in told


def test_the_cloud_s_refusal_ends_the_wait_with_its_own_words(pod: LedPod, runner: Runner) -> None:
    environ = runner.environment(with_identities=False)
    began = time.monotonic()
    role = ROLE.replace("role/app", "role/nobody")
    words = ("--aws-role-arn", role, *file(pod, "aws"), "--", sys.executable, "-c", "print('ran')")
    out, err = runner.run(*words, status=1, environ=environ)
    assert "ran" not in out
    assert "AssumeRoleWithWebIdentity" in err
    assert time.monotonic() - began < 10


def test_an_outage_ends_the_wait_when_it_is_over(pod: LedPod, runner: Runner) -> None:
    with pod.emulator.faults.inject(cloud="aws", status=503):
        environ = runner.environment(with_identities=False)
        words = (*AWS, *file(pod, "aws"))
        err = runner.run(*words, "--wait", "6", "--", "true", status=1, environ=environ)[1]
        assert "503" in err or "unavailable" in err
        assert runner.run(*words, "--wait", "0", "--", "echo", "ran", environ=environ)[0] == "ran\n"


@one_python
@pytest.mark.skipif(shutil.which("unshare") is None or os.geteuid() != 0, reason="only root can hide /proc")
def test_a_system_that_does_not_tell_users_apart_is_warned_of(pod: LedPod, runner: Runner) -> None:
    hidden = ["unshare", "--mount", "/bin/sh", "-c", 'mount -t tmpfs none /proc && exec "$@"', "sh"]
    if subprocess.run([*hidden, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine lets nobody hide /proc")
    environ = runner.environment(with_identities=False)

    def told(*words: str) -> str:
        command = [*hidden, *wif_run(*words, "--", "true")]
        done = subprocess.run(
            command, env=environ, cwd=runner.folder, capture_output=True, text=True, timeout=WAIT_SECONDS, check=True
        )
        return done.stderr

    warning = "every user of this machine who finds the port can get tokens, because gce_metadata asks for no secret"
    assert warning in told(*GCP, *file(pod, "gcp"))
    assert told(*AWS, *file(pod, "aws")) == ""


@one_python
@pytest.mark.parametrize("wait", ["30", "0"])
def test_files_are_written_before_the_program_starts_and_nothing_is_done_after_them(
    pod: LedPod, runner: Runner, wait: str
) -> None:
    """The first writing is no refresh: who would be told of it does not run yet."""
    told = runner.folder / "told"
    identity = {"cloud": "aws", "role_arn": ROLE, "token_file": str(pod.tokens / "aws")}
    file = {"identity": "a", "path": str(runner.folder / "keys"), "kind": "aws-credentials"}
    command = ["/bin/sh", "-c", f"[ -e {runner.folder}/begun ] || echo early >> {told}; echo after >> {told}"]
    section = {"identities": {"a": identity}, "files": [{**file, "after": {"command": command}}]}
    (runner.folder / "named.yaml").write_text(json.dumps({"sidecar": section}))
    script = "touch begun; [ -s keys ] && echo is there; sleep 1.5; cat told"
    words = ("--config-file", "named.yaml", "--wait", wait, "--", "/bin/sh", "-c", script)
    with pod.emulator.faults.inject(cloud="aws", delay_seconds=0.3):
        child = runner.start(*words, environ=runner.environment(with_identities=False))
        out, err = child.communicate(timeout=WAIT_SECONDS)
    assert out == ("is there\n" if wait == "30" else "after\n"), err


def test_an_interface_without_a_secret_answers_our_own_user_only(pod: LedPod, runner: Runner) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    environ = runner.environment(with_identities=False)
    words = (*GCP, *file(pod, "gcp"), "--", sys.executable, "-c", AS_TWO_USERS)
    out, err = runner.run(*words, environ=environ)
    assert json.loads(out) == [["200", "access_token"], ["403", "only programs of the user who started this"]]
    assert "does not say" not in err
