"""The commands that set a place up name its own bucket and documents, and are words that a shell reads back."""

from __future__ import annotations

import json
import shlex

import pytest

from wif.config.issuers import TargetSettings
from wif.edges.stores.opening import SCHEMES
from wif.issuer.setup_commands import setup_commands

PATHS = (".well-known/openid-configuration", "openid/v1/jwks")


def words(url: str, region: str | None = None) -> list[list[str]]:
    lines = setup_commands(TargetSettings(url=url, region=region), PATHS)
    assert lines
    return [shlex.split(line, comments=True) for line in lines if not line.startswith("#")]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_kind_of_target_has_commands(scheme: str) -> None:
    url = SCHEMES[scheme].example.replace("POOL", "pool").replace("PROVIDER", "x").replace("PROJECT", "project")
    assert all(words(url.replace("CLUSTER", "cluster")))


def test_anybody_reads_the_two_objects_of_s3_and_nothing_else() -> None:
    found = words("s3://bucket/a/b", region="eu-central-1")
    [policy] = [json.loads(line[-1]) for line in found if "put-bucket-policy" in line]
    [statement] = policy["Statement"]
    assert statement["Action"] == "s3:GetObject"
    assert statement["Principal"] == "*"
    assert statement["Resource"] == [f"arn:aws:s3:::bucket/a/b/{path}" for path in PATHS]
    assert found[0][-2:] == ["--create-bucket-configuration", "LocationConstraint=eu-central-1"]
    [own] = [json.loads(line[-1]) for line in found if "create-policy" in line]
    assert {action for rule in own["Statement"] for action in [rule["Action"]] if isinstance(action, str)} == {
        "s3:ListBucket"
    }
    assert "s3:DeleteObject" not in json.dumps(own)


def test_partitions_have_their_own_names() -> None:
    assert "arn:aws-cn:s3:::bucket" in str(words("s3://bucket/a", region="cn-north-1"))
    assert "arn:aws-us-gov:s3:::bucket" in str(words("s3://bucket/a", region="us-gov-west-1"))
    assert "LocationConstraint" not in str(words("s3://bucket/a"))


def test_versions_are_kept_and_nothing_is_listed() -> None:
    for url, versions in (("s3://bucket", "Status=Enabled"), ("gs://bucket", "--versioning")):
        assert versions in str(words(url))
    assert "--enable-versioning" in str(words("az://account/container"))
    assert "roles/storage.legacyObjectReader" in str(words("gs://bucket"))
    assert "objectViewer" not in str(words("gs://bucket"))
