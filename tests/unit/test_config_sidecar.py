"""The section ``sidecar`` of wif.yaml: what is taken, what is refused, and that everything wrong is told at once."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from wif.config import from_document
from wif.config.sidecar import (
    AfterRefresh,
    AwsIdentity,
    AzureIdentity,
    GcpIdentity,
    Identity,
    SidecarSettings,
    load_sidecar,
    sidecar_schema,
)
from wif.config.strict_reading import Problems
from wif.errors import ConfigurationError

AWS = {"cloud": "aws", "role_arn": "arn:aws:iam::111122223333:role/app"}
GCP = {"cloud": "gcp", "provider": "projects/1234/locations/global/workloadIdentityPools/p/providers/k"}
ACCOUNT = GCP | {"service_account": "app@project.iam.gserviceaccount.com"}
AZURE = {"cloud": "azure", "tenant_id": "example.com", "client_id": "66666666-7777-8888-9999-000000000000"}
OTHER = AZURE | {"client_id": "another"}
FILE = {"identity": "app", "kind": "aws-credentials", "path": "/run/aws"}


def problems(values: object, **options: Any) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load_sidecar(values, origin="wif.yaml has sidecar", **options)
    assert caught.value.code == "config-invalid"
    assert caught.value.hint
    assert "\n" not in caught.value.message
    return caught.value.message.removeprefix("wif.yaml has sidecar: ")


def of(*identities: Mapping[str, Any], **members: Any) -> dict[str, Any]:
    names = ("app", "reports", "third")
    return {"identities": dict(zip(names, identities, strict=False)), **members}


def test_one_identity_is_enough() -> None:
    settings = load_sidecar(of(AWS))
    assert settings.identities == {"app": AwsIdentity(role_arn=AWS["role_arn"])}
    assert settings.listen == ("127.0.0.1:8787",)
    assert settings.health_address == ":8788"
    assert settings.secret_mode == 0o440
    assert settings.serves_aws_container
    assert not settings.serves_app_service
    assert not settings.gce_metadata
    assert not settings.imds
    assert settings.served == ("app",)


def test_everything_that_can_be_said_is_read_as_yaml_has_it() -> None:
    settings = load_sidecar(
        yaml.safe_load("""
identities:
  app: {cloud: aws, role_arn: arn, region: eu-central-1, session_name: me, duration_seconds: 900, audience: sts}
  reports:
    {cloud: gcp, provider: //iam.googleapis.com/projects/77/locations, service_account: a@b, project: p, scopes: [s],
     lifetime_seconds: 60, region: europe-west3, universe_domain: example.com, token_file: /t}
  graph: {cloud: azure, tenant_id: t, client_id: c, authority_host: https://login.example.com, scopes: [x, y]}
default: {aws: app, gcp: reports, azure: graph}
token_file: /var/run/token
allow_hosts: [sts.example.com:8443]
propagation_seconds: 120
listen: ['127.0.0.1:1', '[::1]:1', 'localhost:0', 'localhost:0']
health_address: '[::]:9'
aws_container: true
app_service: false
gce_metadata: true
imds: true
secret_file: /s/secret
secret_mode: 0444
files:
- {identity: app, kind: aws-credentials, path: /f/aws, mode: 0640, profile: prod}
- {identity: reports, kind: gcp-access-token, path: /f/gcp, after: {signal: HUP, process: nginx}}
- identity: graph
  kind: azure-token
  path: /f/azure
  scope: z
  after: {signal: USR1, pid_file: /run/pid, process: app}
- {identity: graph, kind: federated-token, path: /f/raw, after: {command: [reload, now]}}
- {identity: app, kind: federated-token, path: /f/raw2, after: null}
force_host_network: true
""")
    )
    assert [each.cloud for each in settings.identities.values()] == ["aws", "gcp", "azure"]
    reports = settings.identities["reports"]
    assert isinstance(reports, GcpIdentity)
    assert reports.project_number == "77"
    assert settings.default_name("azure") == "graph"
    assert [file.mode for file in settings.files] == [0o640, 0o600, 0o600, 0o600, 0o600]
    assert settings.files[1].after == AfterRefresh(signal="HUP", process="nginx")
    assert settings.files[3].after == AfterRefresh(command=("reload", "now"))
    assert settings.files[4].after is None
    assert settings.secret_mode == 0o444
    assert not settings.serves_app_service
    assert set(settings.of_cloud("azure")) == {"graph"}
    assert settings.served == ("app", "reports", "graph")
    assert set(msgspec.to_builtins(settings)) == set(SidecarSettings.__struct_fields__)


def test_a_direct_provider_without_a_project_has_no_number() -> None:
    assert GcpIdentity(provider="locations/global/workforcePools/p/providers/k").project_number is None
    assert AzureIdentity(tenant_id="t", client_id="c").cloud == "azure"


def test_the_default_is_the_one_named_or_the_only_one() -> None:
    settings = load_sidecar(of(AWS, AWS, AZURE, default={"aws": "reports"}))
    assert settings.default_name("aws") == "reports"
    assert settings.default_name("azure") == "third"
    assert settings.default_name("gcp") is None
    assert load_sidecar(of(AWS, AWS)).default_name("aws") is None


def test_identities_may_share_a_file_of_aws_with_a_profile_each() -> None:
    settings = load_sidecar(of(AWS, AWS, files=[FILE, FILE | {"identity": "reports", "profile": "reports"}]))
    assert [file.profile for file in settings.files] == ["default", "reports"]
    explicit = FILE | {"identity": "reports", "profile": "reports", "mode": 0o600}
    assert len(load_sidecar(of(AWS, AWS, files=[FILE, explicit])).files) == 2


def test_served_is_who_has_an_interface_or_a_file() -> None:
    file = {"identity": "third", "kind": "gcp-access-token", "path": "/f"}
    assert load_sidecar(of(AWS, GCP, GCP, files=[file])).served == ("app", "third")
    assert load_sidecar(of(AZURE, app_service=False, imds=True)).served == ("app",)
    assert load_sidecar(of(AZURE, GCP)).served == ("app",)


@pytest.mark.parametrize("text", ["0440", "'0440'", "'440'", "0o440", "288"])
def test_a_mode_is_octal_digits_in_yaml_and_in_json(text: str) -> None:
    mode = yaml.safe_load(text)
    settings = load_sidecar(of(AWS, secret_mode=mode, files=[FILE | {"mode": mode}]))
    assert settings.secret_mode == settings.files[0].mode == 0o440


def test_a_mode_that_json_has_in_decimal_stays_one() -> None:
    assert load_sidecar(of(AWS, files=[FILE | {"mode": 420}])).files[0].mode == 0o644


def test_everything_wrong_is_told_in_one_message() -> None:
    said = problems(
        {
            "identities": {
                "a b": AWS,
                "app": {"cloud": "gcp", "provider": 3, "extra": 1},
                "graph": {"cloud": "azure"},
                "none": None,
            },
            "default": {"azure": "app"},
            "listen": ["0.0.0.0:80", "127.0.0.1:1", "[::]:1"],
            "secret_mode": 440,
            "gce_metadata": "yes",
            "files": [{"identity": "nobody", "kind": "odd", "path": "f"}],
            "more": 1,
        },
        check=lambda identity, _: [f"{identity.cloud} says no"],
    )
    assert said.startswith("16 things are wrong: (1) ")
    for part in (
        "more is not known",
        "identities: the name 'a b' is wrong: expected letters",
        "identities.a b: aws says no",
        "identities.app.extra is not known",
        "identities.app.provider is wrong: expected a text, got a whole number",
        "identities.graph.tenant_id is missing",
        "identities.graph.client_id is missing",
        "identities.none is null, expected a mapping of names",
        "default.azure is 'app', which is an identity of gcp",
        "listen[0] is wrong: expected a loopback address",
        "listen[2] is wrong: expected a loopback address",
        'secret_mode is 440 without its leading zero: write 0440 or "0440"',
        "gce_metadata is wrong: expected true or false, got a text",
        "files[0].kind is wrong: expected aws-credentials or gcp-access-token or azure-token or federated-token",
        "files[0].path is wrong: expected an absolute path",
        "files[0] has the identity 'nobody', which is none of the identities",
    ):
        assert part in said, part


def test_what_refers_to_a_broken_identity_is_not_wrong_for_that() -> None:
    file = {"identity": "app", "kind": "gcp-access-token", "path": "/f"}
    said = problems({"identities": {"app": None}, "default": {"gcp": "app"}, "gce_metadata": True, "files": [file]})
    assert said == "identities.app is null, expected a mapping of names"
    said = problems({"identities": {"app": {"cloud": "gcp"}}, "default": {"gcp": "app"}, "files": [file]})
    assert said == "identities.app.provider is missing"


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([], "is of the type list, expected a mapping of names"),
        ({3: 4}, "is a mapping, expected a mapping of names"),
        ({}, "identities is missing"),
        ({"identities": {}}, "identities is empty: a sidecar without an identity has nothing to do"),
        ({"identities": "x"}, "identities is 'x', expected a mapping of names"),
        ({"identities": {"app": {}}}, "identities.app.cloud is missing, expected aws, gcp or azure"),
        ({"identities": {"app": {"cloud": "oci"}}}, "identities.app.cloud is 'oci', expected aws, gcp or azure"),
        ({"identities": {"app": {"cloud": ["aws"]}}}, "identities.app.cloud is of the type list, expected aws"),
        (of(AWS, identities={"app\n": AWS}), r"identities: the name 'app\n' is wrong: expected letters"),
        (of(AWS, identities={"..": AWS}), "identities: the name '..' is wrong: expected letters"),
        (of(AWS | {"role_arn": "a\nb"}), "identities.app.role_arn is wrong: expected a text without"),
        (of(AWS | {"role_arn": "\ud800"}), "identities.app.role_arn has half a surrogate pair in it"),
        (of(AWS | {"duration_seconds": 10}), "identities.app.duration_seconds is wrong: expected a whole number >= 9"),
        (of(AWS | {"token_file": "/t\n"}), "identities.app.token_file is wrong: expected an absolute path"),
        (of(GCP | {"scopes": []}, gce_metadata=True), "identities.app.scopes is wrong: expected a list of length >= 1"),
        (of(GCP | {"scopes": "s"}, gce_metadata=True), "identities.app.scopes is wrong: expected a list, got a text"),
        (of(GCP | {"scopes": [1]}, gce_metadata=True), "identities.app.scopes[0] is wrong: expected a text, got a"),
        (of(AWS, default=[]), "default is of the type list, expected a mapping of names"),
        (of(AWS, default={"oci": "app"}), "default.oci is not known, expected aws, gcp or azure"),
        (of(AWS, default={"aws": 3}), "default.aws is wrong: expected a text, got a whole number"),
        (of(AWS, default={"aws": "who"}), "default.aws is 'who', which is none of the identities"),
        (of(AWS, GCP, default={"aws": "reports"}), "default.aws is 'reports', which is an identity of gcp"),
        (
            of(GCP, ACCOUNT, gce_metadata=True),
            "default.gcp is missing: a request of gce_metadata may name nobody, and there are app, reports",
        ),
        (of(AZURE, OTHER), "default.azure is missing: a request of app_service may name nobody"),
        (of(AZURE, OTHER, app_service=False, imds=True), "default.azure is missing: a request of imds may name nobody"),
        (of(AZURE, aws_container=True), "aws_container is on, but no identity is of aws"),
        (of(AWS, app_service=True), "app_service is on, but no identity is of azure"),
        (of(AWS, gce_metadata=True), "gce_metadata is on, but no identity is of gcp"),
        (of(AWS, imds=True), "imds is on, but no identity is of azure"),
        (of(GCP), "identities are there, but nobody gets anything of them"),
        (
            of(ACCOUNT, ACCOUNT, gce_metadata=True, default={"gcp": "app"}),
            "identities: the service account 'app@project.iam.gserviceaccount.com' is there 2 times",
        ),
        (
            of(OTHER, OTHER | {"client_id": "ANOTHER"}, default={"azure": "app"}),
            "identities: the client id 'another' is there 2 times",
        ),
        (of(AWS, listen=[]), "listen is wrong: expected a list of length >= 1"),
        (of(AWS, listen="127.0.0.1:1"), "listen is wrong: expected a list, got a text"),
        (of(AWS, listen=["127.0.0.1:70000"]), "listen is '127.0.0.1:70000', which is no address"),
        (of(AWS, listen=["127.0.0.256:1"]), "listen is '127.0.0.256:1', which is no address"),
        (of(AWS, listen=["127.0.0.1:1", "127.0.0.1:1"]), "listen: the address '127.0.0.1:1' is there 2 times"),
        (of(AWS, listen=["127.0.0.1:8788"]), "health_address has the port 8788, which listen has"),
        (of(AWS, health_address="8788"), "health_address is wrong: expected HOST:PORT, or :PORT for every address"),
        (of(AWS, allow_hosts=["a b"]), "allow_hosts[0] is wrong: expected a host name"),
        (of(AWS, secret_mode="0640"), "secret_mode is '0640', expected 0440 or 0444, in octal digits"),
        (of(AWS, secret_mode="0440\n"), "secret_mode is '0440\\n', expected 0440 or 0444, in octal digits"),
        (of(AWS, secret_mode="٤٤٠"), "secret_mode is "),
        (of(AWS, secret_mode=444), 'secret_mode is 444 without its leading zero: write 0444 or "0444"'),
        (of(AWS, secret_mode=640), "secret_mode is 640, expected 0440 or 0444"),
        (of(AWS, secret_mode=0o400), "secret_mode is 0400, expected 0440 or 0444, in octal digits"),
        (of(AWS, secret_mode=-1), "secret_mode is -1, expected 0440 or 0444"),
        (of(AWS, secret_mode=True), "secret_mode is True, expected 0440 or 0444"),
        (of(AWS, files=[{"identity": "app", "path": "/f"}]), "files[0].kind is missing"),
        (of(AWS, files=[{"kind": "federated-token", "path": "/f"}]), "files[0].identity is missing"),
        (of(AWS, files={}), "files is a mapping, expected a list"),
        (of(AWS, files=[FILE | {"mode": 640}]), 'files[0].mode is 640 without its leading zero: write 0640 or "0640"'),
        (of(AWS, files=[FILE | {"mode": 400}]), 'files[0].mode is 400 without its leading zero: write 0400 or "0400"'),
        (of(AWS, files=[FILE | {"mode": 0o620}]), 'files[0].mode is 400 without its leading zero'),
        (of(AWS, files=[FILE | {"mode": 0o460 | 0o4000}]), "files[0].mode is 2352, expected one that its owner"),
        (of(AWS, files=[FILE | {"mode": 0o066}]), "files[0].mode is 066, expected one that its owner reads"),
        (of(AWS, files=[FILE | {"mode": 0o646}]), "files[0].mode is 0646, expected one that its owner reads"),
        (of(AWS, files=[FILE | {"mode": "0755"}]), "files[0].mode is '0755', expected one that its owner reads"),
        (of(AWS, files=[FILE | {"mode": "rw"}]), "files[0].mode is 'rw', expected one that its owner reads"),
        (of(AWS, files=[FILE | {"scope": "s"}]), "files[0] must have a scope where it is of the kind azure-token"),
        (
            of(AZURE, files=[FILE | {"kind": "azure-token"}]),
            "files[0] must have a scope where it is of the kind azure-token",
        ),
        (
            of(AWS, files=[FILE | {"kind": "gcp-access-token"}]),
            "files[0] has the identity 'app', which is of aws, and gcp-access-token is for gcp",
        ),
        (of(AWS, files=[FILE, FILE]), "files: of '/run/aws' the profile 'default' is there 2 times"),
        (
            of(AWS, files=[FILE, FILE | {"profile": "x", "mode": 0o640}]),
            "files: the path '/run/aws' has several modes",
        ),
        (
            of(AWS, files=[FILE, FILE | {"kind": "federated-token"}]),
            "files: the path '/run/aws' is there 2 times; only aws-credentials may share a file",
        ),
        (of(AWS, files=[FILE | {"profile": "a]b"}]), "files[0] has a profile with other characters than letters"),
        (of(AWS, files=[FILE], secret_file="/run/aws"), "files: the path '/run/aws' is that of secret_file"),
        (of(AWS, files=[FILE | {"after": {}}]), "files[0].after must have either command or signal"),
        (
            of(AWS, files=[FILE | {"after": {"command": ["x"], "signal": "HUP", "process": "x"}}]),
            "files[0].after must have either command or signal",
        ),
        (
            of(AWS, files=[FILE | {"after": {"signal": "HUP"}}]),
            "files[0].after must have process or pid_file or both with a signal",
        ),
        (
            of(AWS, files=[FILE | {"after": {"command": ["x"], "process": "x"}}]),
            "files[0].after must have process or pid_file or both with a signal, and none without",
        ),
        (of(AWS, files=[FILE | {"after": {"signal": "KILL"}}]), "files[0].after.signal is wrong: expected HUP or INT"),
        (of(AWS, force_host_network=1), "force_host_network is wrong: expected true or false, got a whole number"),
        (of(AWS, **{"half\ud800": 1}), r"half\ud800 is not known"),
        (of(AWS, secret_mode=datetime.date(2026, 1, 1)), "secret_mode is of the type date"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_its_place(values: object, said: str) -> None:
    assert problems(values).startswith(said)


def test_the_clouds_rules_get_the_token_file_of_the_section() -> None:
    seen: list[tuple[str, str | None]] = []

    def check(identity: Identity, token_file: str | None) -> list[str]:
        seen.append((identity.cloud, token_file))
        return []

    load_sidecar(of(AWS, token_file="/t"), check=check)
    load_sidecar(of(GCP, gce_metadata=True), check=check)
    problems(of(AZURE, token_file=3), check=check)
    assert seen == [("aws", "/t"), ("gcp", None), ("azure", None)]
    assert problems(of(AWS), check=lambda *_: ["one; do it", "two"]) == (
        "2 things are wrong: (1) identities.app: one; do it; (2) identities.app: two"
    )


def test_what_could_not_be_read_is_told_first_and_misleads_nobody() -> None:
    assert problems({}, unread={"identities": "--identities is no JSON"}) == "--identities is no JSON"
    said = problems({"default": {"aws": "app"}, "more": 1}, unread={"identities": "one", "listen": "two"})
    assert said == "3 things are wrong: (1) one; (2) two; (3) more is not known"
    said = problems(of(AWS, default={"aws": "who"}), unread={"identities": "one"})
    assert said.endswith("(2) default.aws is 'who', which is none of the identities")
    assert problems([], unread={"identities": "one"}).startswith("2 things are wrong: (1) one; (2) is of the type list")


def test_several_are_a_list_too() -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_sidecar({"a": 1, **of(AWS)}, origin="wif.yaml has sidecar")
    assert caught.value.several == ()
    assert "docs/reference/sidecar.md" in caught.value.hint
    assert (Path(__file__).parents[2] / "docs" / "reference" / "sidecar.md").exists()
    with pytest.raises(ConfigurationError) as caught:
        load_sidecar({"a": 1, "b": 2, **of(AWS)}, origin="wif.yaml has sidecar")
    assert caught.value.several == (
        "wif.yaml has sidecar: 2 things are wrong:",
        "(1) a is not known",
        "(2) b is not known",
    )


def test_a_message_ends_somewhere() -> None:
    said = problems(of(AWS, **{f"x{number}": 1 for number in range(80)}))
    assert said.startswith("80 things are wrong: ")
    assert said.endswith("(50) x49 is not known; and 30 more")
    itself: list[Any] = []
    itself.append(itself)
    assert problems(of(AWS, listen=itself)) == "listen[0] is wrong: expected a text, got a list"
    assert "'" + "x" * 64 + "'" in problems(of(AWS, secret_mode="x" * 9000))


def test_no_value_that_may_be_a_secret_is_shown() -> None:
    assert "hunter2" not in problems(of(AWS | {"role_arn": "hunter2\n", "token_file": "hunter2"}))


def test_a_pattern_without_words_is_told_as_it_is() -> None:
    found = Problems({})
    found.value(msgspec.structs.fields(AwsIdentity)[0].type, "\n", "x")
    assert "a text of the form ^(?!" in str(found)


def test_an_exchange_passes_the_section_over() -> None:
    assert from_document({"sidecar": {"anything": 1}}, origin="wif.yaml", is_named=False) == {}


def test_the_schema_is_one_for_all_members() -> None:
    schema = sidecar_schema()
    assert set(schema["$defs"]["SidecarSettings"]["properties"]) == set(SidecarSettings.__struct_fields__)
