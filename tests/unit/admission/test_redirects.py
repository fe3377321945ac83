"""The table of variables that lead an SDK elsewhere."""

from __future__ import annotations

from wif.admission.annotation_keys import CLOUDS
from wif.admission.redirects import REDIRECTS
from wif.clouds.endpoint_variables import LEADING_ELSEWHERE


def test_every_cloud_has_a_table_and_no_variable_is_in_two() -> None:
    assert set(REDIRECTS) == set(CLOUDS)
    names = [name for table in REDIRECTS.values() for name in table]
    assert len(names) == len(set(names))


def test_it_is_the_list_of_what_leads_past_a_local_endpoint_but_for_these() -> None:
    """Who adds a variable to that list decides here whether it also leads past a token."""
    leading = {name for table in LEADING_ELSEWHERE.values() for name in table}
    identities = {name for table in REDIRECTS.values() for name, effect in table.items() if effect == "identity"}
    assert identities - leading == {"AWS_CONTAINER_CREDENTIALS_FULL_URI", "IDENTITY_ENDPOINT", "IDENTITY_HEADER"}
    assert leading - identities == {
        "AWS_CONTAINER_AUTHORIZATION_TOKEN",
        "AWS_CREDENTIAL_EXPIRATION",
        "AWS_CREDENTIAL_FILE",
        "AWS_ROLE_ARN",
        "AWS_ROLE_SESSION_NAME",
        "BOTO_CONFIG",
        "CLOUDSDK_ACTIVE_CONFIG_NAME",
        "GCE_METADATA_MTLS_MODE",
        "IDENTITY_SERVER_THUMBPRINT",
        "IMDS_ENDPOINT",
        "METADATA_SERVER_DETECTION",
        "NO_GCE_CHECK",
    }


def test_what_selects_without_redirecting_is_not_in_it() -> None:
    """A container may choose its own role, client or project: that is kept, and no warning's matter."""
    names = {name for table in REDIRECTS.values() for name in table}
    assert not names & {"AWS_ROLE_ARN", "AWS_REGION", "AZURE_CLIENT_ID", "AZURE_TENANT_ID", "GOOGLE_CLOUD_PROJECT"}
