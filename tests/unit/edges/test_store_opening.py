"""URLs of targets: one canonical spelling, and errors that show the right one."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wif.edges.stores.directory import DirectoryStore
from wif.edges.stores.google import FleetStore, GcpProviderStore
from wif.edges.stores.objects import ObjectStore
from wif.edges.stores.opening import SCHEMES, open_store, parse_target
from wif.errors import ConfigurationError

PROVIDER = "projects/123456789012/locations/global/workloadIdentityPools/pool/providers/on-prem"
MEMBERSHIP = "projects/my-project/locations/global/memberships/on-prem"

GOOD = [
    ("file:///srv/issuer", "file:///srv/issuer", ("/srv/issuer",)),
    ("file:///srv/issuer/", "file:///srv/issuer", ("/srv/issuer",)),
    ("file://localhost/srv/./a/../issuer", "file:///srv/issuer", ("/srv/issuer",)),
    ("file:///srv/my%20issuer", "file:///srv/my%20issuer", ("/srv/my issuer",)),
    ("s3://bucket", "s3://bucket", ("bucket", "")),
    ("s3://bucket/", "s3://bucket", ("bucket", "")),
    ("s3://my.bucket-1/clusters/a/", "s3://my.bucket-1/clusters/a", ("my.bucket-1", "clusters/a")),
    ("gs://bucket_1/a", "gs://bucket_1/a", ("bucket_1", "a")),
    ("az://account1/$web", "az://account1/$web", ("account1", "$web", "")),
    ("az://account1/con-tainer/a/b", "az://account1/con-tainer/a/b", ("account1", "con-tainer", "a/b")),
    (f"gcp-provider:{PROVIDER}", f"gcp-provider:{PROVIDER}", (PROVIDER,)),
    (f"gcp-provider://iam.googleapis.com/{PROVIDER}/", f"gcp-provider:{PROVIDER}", (PROVIDER,)),
    (f"gke-fleet:{MEMBERSHIP}", f"gke-fleet:{MEMBERSHIP}", (MEMBERSHIP,)),
    (f"gke-fleet://gkehub.googleapis.com/{MEMBERSHIP}", f"gke-fleet:{MEMBERSHIP}", (MEMBERSHIP,)),
    ("configmap:wif-system/issuer.a", "configmap:wif-system/issuer.a", ("wif-system", "issuer.a")),
    ("configmap://wif-system/issuer", "configmap:wif-system/issuer", ("wif-system", "issuer")),
]

BAD = [
    ("/srv/issuer", "file:///srv/issuer"),
    ("srv", "file:///srv"),
    ("", "file:///srv/issuer"),
    ("S3://bucket", "s3://bucket/prefix"),
    ("https://bucket.s3.amazonaws.com/", "s3://bucket/prefix"),
    ("file://srv/issuer", "file:///srv/issuer"),
    ("file:/srv/issuer", "file:///srv/issuer"),
    ("file:///", "file:///srv/issuer"),
    ("file:///srv?x", "file:///srv/issuer"),
    ("file:///srv#x", "file:///srv/issuer"),
    ("file:///srv%00x", "file:///srv/issuer"),
    ("s3:bucket", "s3://bucket/prefix"),
    ("s3://", "s3://bucket/prefix"),
    ("s3://b", "s3://bucket/prefix"),
    ("s3://user:secret@bucket/p", "s3://bucket/prefix"),
    ("s3://bucket//a", "s3://bucket/prefix"),
    ("s3://bucket/a/../b", "s3://bucket/prefix"),
    ("s3://bucket/a b", "s3://bucket/prefix"),
    ("s3://bucket/a%20b", "s3://bucket/prefix"),
    ("s3://bucket/a?versionId=1", "s3://bucket/prefix"),
    ("s3://bucket/" + "a" * 901, "s3://bucket/prefix"),
    ("gs://-bucket", "gs://bucket/prefix"),
    ("az://account1", "az://account/container/prefix"),
    ("az://Account/container", "az://account/container/prefix"),
    ("az://account1/con--tainer", "az://account/container/prefix"),
    ("gcp-provider:on-prem", "workloadIdentityPools/my-pool/providers/on-prem"),
    (f"gcp-provider:{MEMBERSHIP}", "workloadIdentityPools/my-pool/providers/on-prem"),
    (f"gke-fleet:{MEMBERSHIP}/x", "memberships/on-prem"),
    ("configmap:issuer", "configmap:wif-system/issuer"),
    ("configmap:wif_system/issuer", "configmap:wif-system/issuer"),
    ("configmap:wif-system/a/b", "configmap:wif-system/issuer"),
]


class Target(NamedTuple):
    url: str
    endpoint: str | None = None
    region: str | None = None
    ca_file: str | None = None
    single_writer: bool = False
    second_way_in: str | None = None
    allow_http: bool = False


@pytest.mark.parametrize(("url", "name", "parts"), GOOD)
def test_a_url_has_one_canonical_spelling(url: str, name: str, parts: tuple[str, ...]) -> None:
    place = parse_target(url)
    assert (place.name, place.parts) == (name, parts)
    assert parse_target(place.name) == place


@pytest.mark.parametrize(("url", "shown"), BAD)
def test_a_url_that_cannot_be_right_is_refused_with_an_example(url: str, shown: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_target(url)
    assert caught.value.code == "config-invalid"
    assert shown in (caught.value.hint or "")


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_example_of_each_kind_is_right(scheme: str) -> None:
    assert parse_target(SCHEMES[scheme].example).scheme == scheme


@given(st.sampled_from([*SCHEMES, "x"]), st.sampled_from(["", "//", "///"]), st.text(max_size=60))
def test_any_text_is_read_or_refused(scheme: str, slashes: str, rest: str) -> None:
    try:
        place = parse_target(f"{scheme}:{slashes}{rest}")
    except ConfigurationError:
        return
    assert parse_target(place.name) == place


@pytest.mark.parametrize(
    "url", ["s3://user:p4ss@bucket/a", "az://account1/c?sv=1&sig=p4ss", "x://u:p4ss@h", "file:///a?p4ss"]
)
def test_a_secret_in_a_url_is_not_repeated(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_target(url)
    assert "p4ss" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("file:///srv/issuer", DirectoryStore),
        ("s3://bucket/p", ObjectStore),
        ("gs://bucket/p", ObjectStore),
        ("az://account1/container/p", ObjectStore),
        (f"gcp-provider:{PROVIDER}", GcpProviderStore),
        (f"gke-fleet:{MEMBERSHIP}", FleetStore),
    ],
)
def test_each_url_opens_its_store_and_sends_nothing(url: str, kind: type) -> None:
    store = open_store(Target(url), environ={})
    assert isinstance(store, kind)
    assert store.name == url
    store.close()


def test_a_config_map_needs_a_cluster() -> None:
    with pytest.raises(ConfigurationError) as caught:
        open_store(Target("configmap:wif-system/issuer"))
    assert caught.value.code == "config-missing"


@pytest.mark.parametrize(
    ("target", "environ", "words"),
    [
        (Target("s3://bucket", endpoint="http://minio:9000"), {}, "is plain http"),
        (Target("s3://bucket"), {"AWS_ENDPOINT_URL_S3": "http://minio:9000"}, "is plain http"),
        (Target("s3://bucket"), {"AWS_ENDPOINT_URL": "ftp://minio"}, "cannot be used"),
        (Target("s3://bucket", endpoint="https://user:secret@minio"), {}, "cannot be used"),
        (Target("s3://bucket", endpoint="https://minio?x=1"), {}, "cannot be used"),
        (Target("s3://bucket", region="moon-1"), {}, "is not a region of AWS"),
        (Target("s3://bucket"), {"AWS_REGION": "moon-1"}, "is not a region of AWS"),
        (Target("gs://bucket", endpoint="http://gcs:4443", allow_http=True), {}, "show their secret"),
        (Target("az://account1/container", endpoint="http://blob", allow_http=True), {}, "show their secret"),
        (Target("s3://bucket", ca_file="/nowhere/ca.pem"), {}, "cannot be read"),
        (Target("s3://bucket"), {"AWS_CA_BUNDLE": "/nowhere/ca.pem"}, "cannot be read"),
        (Target("gs://bucket", ca_file="/dev/null"), {}, "cannot be read"),
        (Target("gs://bucket", ca_file=__file__), {}, "holds no certificates"),
    ],
)
def test_settings_of_an_object_store_are_checked_before_any_request(
    target: Target, environ: dict[str, str], words: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        open_store(target, environ=environ)
    assert words in caught.value.message
    assert "secret@" not in str(caught.value)


@pytest.mark.parametrize(
    ("target", "environ", "expected"),
    [
        (Target("s3://bucket"), {}, ("us-east-1", "https://s3.us-east-1.amazonaws.com")),
        (
            Target("s3://bucket", region="eu-west-1"),
            {"AWS_REGION": "x"},
            ("eu-west-1", "https://s3.eu-west-1.amazonaws.com"),
        ),
        (Target("s3://bucket"), {"AWS_REGION": "cn-north-1"}, ("cn-north-1", "https://s3.cn-north-1.amazonaws.com.cn")),
        (
            Target("s3://bucket", endpoint="https://a"),
            {"AWS_ENDPOINT_URL_S3": "https://b", "AWS_DEFAULT_REGION": "garage"},
            ("garage", "https://a"),
        ),
        (
            Target("s3://bucket"),
            {"AWS_ENDPOINT_URL_S3": "https://b", "AWS_ENDPOINT_URL": "https://c"},
            ("us-east-1", "https://b"),
        ),
    ],
)
def test_region_and_endpoint_of_s3(
    target: Target, environ: dict[str, str], expected: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """obstore reads the process' environment too; what was decided here wins over it."""
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"):
        monkeypatch.setenv(name, "https://elsewhere.invalid")
    monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
    store = open_store(target, environ=environ)
    assert isinstance(store, ObjectStore)
    config = store._native.config
    assert (config["region"], config["endpoint"]) == expected
    assert config["endpoint_url_s3"] == expected[1]
    assert config["skip_signature"] == "false"
