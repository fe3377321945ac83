"""What ``wif sidecar serve`` is told: by a file, variables and options; what is taken up anew, and what is refused."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest

from tests.integration.led_pod import ROLE, LedPod, pod
from tests.integration.server_processes import NotStarted, until
from tests.integration.sidecars import IDENTITY_HEADER, SidecarProcess, aws, azure, gcp

__all__ = ["pod"]  # fixtures

pytestmark = [pytest.mark.integration, pytest.mark.one_python, pytest.mark.xdist_group("sidecar_settings")]


def test_new_settings_are_taken_up_and_wrong_ones_told_whole(pod: LedPod, tmp_path: Path) -> None:
    before = {"identities": {"app": aws(pod)}}
    with SidecarProcess(pod, tmp_path, before) as process:
        process.until_ready()
        keys = process.keys("/aws/app")
        process.write({"identities": {"app": aws(pod), "other": {"cloud": "aws"}}, "gce_metdata": True})
        told = process.until_logged("the new settings are not used")
        assert "role_arn" in told
        assert "gce_metdata" in told
        assert process.keys("/aws/app") == keys
        until(lambda: process.metric("wif_sidecar_reload_failures_total") == 1, what="the failure is counted")
        identities = {"app": aws(pod), "other": aws(pod), "reports": gcp(pod)}
        process.write({"identities": identities, "gce_metadata": True, "secret_mode": 0o444})
        process.until_logged("the new settings are in use")
        assert process.until_logged("count from the next start").endswith(": secret_mode")
        assert stat.S_IMODE(process.secret_file.stat().st_mode) == 0o440
        assert process.keys("/aws/app") == keys  # what has not changed keeps its credential
        until(lambda: process.keys("/aws/other")[0] == 200, what="the new identity")
        assert process.ask("/", {"Metadata-Flavor": "Google"})[0] == 200
        process.write(before)
        until(lambda: process.keys("/aws/other")[0] == 404, what="the end of the new identity")
        assert process.ask("/", {})[0] == 404
        assert process.metric("wif_sidecar_reloads_total") == 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"identities": {"app": {"cloud": "aws"}, "b": {"cloud": "gcp"}}, "imd": 1}, ("role_arn", "provider", "imd")),
        ({"listen": ["0.0.0.0:8787"]}, ("listen[0]", "loopback")),
        ({"app_service": True}, ("IDENTITY_HEADER",)),
    ],
    ids=["several", "address", "header"],
)
def test_a_wrong_start_ends_with_2_and_says_everything(
    pod: LedPod, tmp_path: Path, change: dict[str, Any], words: tuple[str, ...]
) -> None:
    settings = {"identities": {"app": aws(pod), "vault": azure(pod)}} | change
    arguments = ("--listen", "127.0.0.1:0") if "listen" not in change else ("--listen", change["listen"][0])
    with pytest.raises(NotStarted) as caught:
        SidecarProcess(pod, tmp_path, settings, *arguments)
    status, _, told = caught.value.args
    assert status == 2
    assert all(word in "\n".join(told) for word in words), told


def test_the_webhooks_variables_are_enough(pod: LedPod, tmp_path: Path) -> None:
    names = ["AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE", "GOOGLE_APPLICATION_CREDENTIALS", "AZURE_CLIENT_ID"]
    names += ["AZURE_TENANT_ID", "AZURE_FEDERATED_TOKEN_FILE"]
    environment = {name: pod.environment[name] for name in names} | {"IDENTITY_HEADER": IDENTITY_HEADER}
    with SidecarProcess(pod, tmp_path, None, "--gce-metadata", environment=environment) as process:
        assert process.place["interfaces"] == ["aws", "gce", "app-service"]
        process.until_ready()
        assert process.keys("/aws")[1] == process.keys("/aws/aws")[1]
    with pytest.raises(NotStarted) as caught:
        SidecarProcess(pod, tmp_path, None, environment={"AWS_ROLE_ARN": ROLE})
    assert caught.value.args[:2] == (2, "config-missing")
    with pytest.raises(NotStarted) as caught:
        SidecarProcess(pod, tmp_path, None)
    assert caught.value.args[:2] == (2, "config-missing")


def test_everything_wrong_is_a_line_each_whatever_it_came_from(pod: LedPod, tmp_path: Path) -> None:
    settings = {"identities": {"app": aws(pod), "other": {"cloud": "aws"}}, "gce_metdata": True}
    environment = {"WIF_SIDECAR_IMDS": "perhaps"}
    with pytest.raises(NotStarted) as caught:
        SidecarProcess(pod, tmp_path, settings, "--secret-mode", "0999", environment=environment)
    status, code, told = caught.value.args
    assert (status, code) == (2, "config-invalid")
    head, *each, hint = told
    assert head == "error: the settings of the sidecar: 4 things are wrong:"
    assert [line[:6] for line in each] == [f"  ({number}) " for number in range(1, 5)]
    assert "WIF_SIDECAR_IMDS: 'perhaps' is none of the yes/no values" in each[0]
    assert hint.startswith("hint: ")


def test_a_settings_file_that_is_deleted_or_broken_is_told_as_that(pod: LedPod, tmp_path: Path) -> None:
    with SidecarProcess(pod, tmp_path, {"identities": {"app": aws(pod)}}) as process:
        process.until_ready()
        (tmp_path / "wif.yaml").unlink()
        assert process.until_logged("the new settings are not used").endswith("wif.yaml is gone")
        (tmp_path / "wif.yaml").write_text("sidecar:\n  identities: {app: hunter2]\n")
        assert "line 2, column 28: expected ',' or '}'" in process.until_logged("is not YAML")
        assert process.keys()[0] == 200
    assert "hunter2" not in json.dumps(process.log)


@pytest.mark.parametrize("value", ["short", "abcdefgh ijklmnopq\x7f", "\xff" * 20], ids=["short", "control", "latin"])
def test_a_header_that_nobody_could_send_is_refused_at_the_start(pod: LedPod, tmp_path: Path, value: str) -> None:
    with pytest.raises(NotStarted) as caught:
        SidecarProcess(pod, tmp_path, {"identities": {"vault": azure(pod)}}, environment={"IDENTITY_HEADER": value})
    status, code, told = caught.value.args
    assert (status, code) == (2, "config-invalid")
    assert "IDENTITY_HEADER" in told[0]
    assert value not in "".join(told)


def test_a_header_from_a_file_may_end_with_a_newline(pod: LedPod, tmp_path: Path) -> None:
    environment = {"IDENTITY_HEADER": f"{IDENTITY_HEADER}\n"}
    with SidecarProcess(pod, tmp_path, {"identities": {"vault": azure(pod)}}, environment=environment) as process:
        process.until_ready()
        path = "/azure/token?api-version=2019-08-01&resource=https://management.azure.com"
        assert process.ask(path, {"X-IDENTITY-HEADER": IDENTITY_HEADER})[0] == 200


def test_who_is_served_to_nobody_is_named(pod: LedPod, tmp_path: Path) -> None:
    settings = {"identities": {"app": aws(pod), "reports": gcp(pod), "vault": azure(pod)}}
    with SidecarProcess(pod, tmp_path, settings) as process:
        process.until_ready()
        assert "gce_metadata is off" in process.until_logged("the identity reports (gcp) is served to nobody")
        assert "IDENTITY_HEADER" in process.until_logged("the identity vault (azure) is served to nobody")
        assert process.place["interfaces"] == ["aws"]
    with pytest.raises(NotStarted) as caught:
        SidecarProcess(pod, tmp_path, {"identities": {"vault": azure(pod)}})
    assert caught.value.args[:2] == (2, "config-missing")
    assert "IDENTITY_HEADER" in caught.value.args[2][0]


def test_readiness_says_which_cloud_lacks_what(pod: LedPod, tmp_path: Path) -> None:
    settings = {"identities": {"app": aws(pod, role_arn=f"{ROLE}-2"), "reports": gcp(pod)}, "gce_metadata": True}
    with SidecarProcess(pod, tmp_path, settings) as process:
        wanted = (503, "identities of aws without a credential: 1 (refused, trust-denied)\n")
        until(lambda: process.health("/readyz") == wanted, what=f"{wanted}")


def test_a_change_while_it_starts_is_not_lost(pod: LedPod, tmp_path: Path) -> None:
    """The file is another one as soon as it was read."""
    with SidecarProcess(pod, tmp_path, {"identities": {"app": aws(pod)}}) as process:
        process.write({"identities": {"app": aws(pod), "spare": aws(pod)}})  # before the first look at it
        process.until_logged("the new settings are in use")
        until(lambda: process.keys("/aws/spare")[0] == 200, what="the second role")
        assert process.metric("wif_sidecar_reloads_total") == 1


def test_a_reload_that_names_a_place_that_is_not_there_leaves_everything(pod: LedPod, tmp_path: Path) -> None:
    def with_files(*paths: Path) -> dict[str, Any]:
        files = [{"identity": "app", "kind": "aws-credentials", "path": str(path)} for path in paths]
        return {"identities": {"app": aws(pod)}, "files": files}

    with SidecarProcess(pod, tmp_path, with_files(tmp_path / "credentials")) as process:
        process.until_ready()
        process.write(with_files(tmp_path / "no" / "credentials", tmp_path / "none" / "credentials"))
        told = process.until_logged("the new settings are not used")
        assert str(tmp_path / "no") in told
        assert str(tmp_path / "none") in told
        (tmp_path / "credentials").unlink()
        until((tmp_path / "credentials").exists, what="the file before is still kept")


def test_what_an_application_puts_where_a_file_is_kept_leaves_no_identity_served(pod: LedPod, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    files = [{"identity": "app", "kind": "aws-credentials", "path": str(shared / "credentials")}]
    with SidecarProcess(pod, tmp_path, {"identities": {"app": aws(pod), "admin": aws(pod)}, "files": files}) as process:
        process.until_ready()
        assert process.keys("/aws/admin")[0] == 200
        (shared / "credentials").unlink()
        (shared / "credentials").mkdir()
        process.write({"identities": {"app": aws(pod)}, "files": files})
        until(lambda: process.keys("/aws/admin")[0] == 404, what="the end of an identity that was taken away")
        wanted = (503, "1 of 1 files hold no valid credential: file-unusable\n")
        until(lambda: process.health("/readyz") == wanted, what=f"{wanted}")


def test_variables_name_every_setting(pod: LedPod, tmp_path: Path) -> None:
    environment = {
        "WIF_SIDECAR_IDENTITIES": json.dumps({"one": aws(pod), "two": aws(pod)}),
        "WIF_SIDECAR_DEFAULT": "aws=two",
        "WIF_SIDECAR_SECRET_MODE": "0444",
    }
    with SidecarProcess(pod, tmp_path, None, environment=environment) as process:
        process.until_ready()
        assert process.keys("/aws")[1] == process.keys("/aws/two")[1] != process.keys("/aws/one")[1]
        assert stat.S_IMODE(process.secret_file.stat().st_mode) == 0o444


def test_a_file_that_lay_there_may_lead_no_token_away(pod: LedPod, tmp_path: Path) -> None:
    file = {"identity": "app", "kind": "aws-credentials", "path": "/x", "after": {"command": ["/bin/true"]}}
    harms: dict[str, dict[str, Any]] = {
        "sidecar.allow_hosts": {"allow_hosts": ["attacker.example"]},
        "sidecar.identities.app.authority_host": {
            "identities": {"app": azure(pod, authority_host="https://attacker.example")}
        },
        "sidecar.files (writes credentials to a path), sidecar.files[0].after": {"files": [file]},
        "sidecar.secret_file": {"secret_file": str(tmp_path / "authorization")},
    }
    for what, harm in harms.items():
        (tmp_path / "wif.yaml").write_text(json.dumps({"sidecar": {"identities": {"app": aws(pod)}} | harm}))
        with pytest.raises(NotStarted) as caught:
            SidecarProcess(pod, tmp_path, None)
        status, code, told = caught.value.args
        assert (status, code) == (2, "host-not-allowed" if "host" in what else "config-invalid")
        assert f"sets {what} (" in told[0]
    assert not (tmp_path / "authorization").exists()
