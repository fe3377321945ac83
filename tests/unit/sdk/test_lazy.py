"""Nothing is loaded before it is named, and what is missing says which extra brings it."""

from __future__ import annotations

import subprocess
import sys

import pytest

import wif
import wif.sdk
from wif.errors import ConfigurationError
from wif.sdk.aws import SupportsAwsCredentials
from wif.sdk.azure import SupportsAzureTokens
from wif.sdk.gcp import SupportsGoogleTokens
from wif.sdk.requirements import present

MODULES = {
    "aws": ("botocore", "pip install 'wif[aws]'"),
    "aiobotocore": ("aiobotocore", "pip install 'wif[aiobotocore]'"),
    "gcp": ("google", "pip install 'wif[gcp]'"),
    "azure": ("azure", "pip install 'wif[azure]'"),
}


def _run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_import_loads_no_sdk() -> None:
    loaded = _run("import wif.sdk, sys; print(*sorted(sys.modules))").split()
    tops = {name.partition(".")[0] for name in loaded}
    assert not tops & {"boto3", "botocore", "aiobotocore", "google", "azure", "requests", "urllib3", "asyncio"}
    assert [name for name in loaded if name.startswith("wif")] == ["wif", "wif.sdk"]


@pytest.mark.parametrize("name", ["aws", "gcp", "azure"])
def test_a_named_module_is_loaded(name: str) -> None:
    assert getattr(wif.sdk, name).__name__ == f"wif.sdk.{name}"
    others = {"aws": "azure", "gcp": "botocore", "azure": "botocore"}
    assert _run(f"import wif.sdk, sys; wif.sdk.{name}; print({others[name]!r} in sys.modules)") == "False"


def test_every_module_is_offered() -> None:
    assert sorted(MODULES) == wif.sdk.__all__
    with pytest.raises(AttributeError, match="has no attribute 'oracle'"):
        _ = wif.sdk.oracle


@pytest.mark.parametrize("name", MODULES)
def test_a_missing_sdk_names_its_extra(name: str) -> None:
    package, hint = MODULES[name]
    out = _run(
        f"import sys; sys.modules[{package!r}] = None\n"
        "import wif.sdk\n"
        "from wif.errors import ConfigurationError\n"
        f"try: wif.sdk.{name}\n"
        "except ConfigurationError as error: print(error.code, error.hint)"
    )
    assert out == f"extra-missing {hint}"


def test_a_missing_boto3_leaves_the_credentials() -> None:
    out = _run(
        "import sys; sys.modules['boto3'] = None\n"
        "from wif.sdk import aws\n"
        "from wif.errors import ConfigurationError\n"
        "class E: region = None\n"
        "print(type(aws.credentials(E())).__name__)\n"
        "try: aws.session(E())\n"
        "except ConfigurationError as error: print(error.code, error.hint)"
    )
    assert out == "Credentials\nextra-missing pip install 'wif[aws]'"


def test_the_librarys_exchangers_are_what_the_objects_ask() -> None:
    role = wif.aws("arn:aws:iam::111122223333:role/app", source=str, region="eu-central-1")
    provider = "projects/1/locations/global/workloadIdentityPools/p/providers/k"
    account = wif.gcp(provider, "app@p.iam.gserviceaccount.com", source=str, project_id="p", quota_project_id="q")
    tenant = "11111111-2222-3333-4444-555555555555"
    client = wif.azure(tenant, "66666666-7777-8888-9999-000000000000", source=str)
    # the assignments are for mypy, the values for the names
    aws: SupportsAwsCredentials = role
    gcp: SupportsGoogleTokens = account
    azure: SupportsAzureTokens = client
    assert aws.region == "eu-central-1"
    assert (gcp.service_account, gcp.project_id) == ("app@p.iam.gserviceaccount.com", "p")
    assert (gcp.quota_project_id, gcp.universe_domain) == ("q", "googleapis.com")
    assert azure.tenant_id == tenant


def test_an_environment_without_a_cloud_names_the_variables() -> None:
    with pytest.raises(ConfigurationError, match="expected A and B") as caught:
        present(None, cloud="aws", variables="A and B")
    assert caught.value.code == "config-missing"
    assert "wif.aws()" in caught.value.hint


@pytest.mark.parametrize(
    "call",
    [
        "aws.session()",
        "aws.credentials()",
        "gcp.credentials()",
        "gcp.default()",
        "gcp.async_credentials()",
        "gcp.id_token_credentials(audience='https://a.invalid')",
        "azure.credential()",
        "azure.async_credential()",
        "azure.aio.credential()",
    ],
)
def test_without_an_exchanger_the_environment_is_asked(call: str) -> None:
    out = _run(
        "import os\n"
        "for name in list(os.environ):\n"
        "    if name.startswith(('AWS_', 'GOOGLE_', 'AZURE_', 'WIF_')): del os.environ[name]\n"
        "import wif.sdk\n"
        "from wif.errors import ConfigurationError\n"
        f"try: wif.sdk.{call}\n"
        "except ConfigurationError as error: print(error.code)"
    )
    assert out == "config-missing"
