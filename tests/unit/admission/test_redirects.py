"""The table of variables that lead an SDK elsewhere."""

from __future__ import annotations

from wif.admission.annotation_keys import CLOUDS
from wif.admission.redirects import REDIRECTS


def test_every_cloud_has_a_table_and_no_variable_is_in_two() -> None:
    assert set(REDIRECTS) == set(CLOUDS)
    names = [name for table in REDIRECTS.values() for name in table]
    assert len(names) == len(set(names))


def test_what_selects_without_redirecting_is_not_in_it() -> None:
    """A container may choose its own role, client or project: that is kept, and no warning's matter."""
    names = {name for table in REDIRECTS.values() for name in table}
    assert not names & {"AWS_ROLE_ARN", "AWS_REGION", "AZURE_CLIENT_ID", "AZURE_TENANT_ID", "GOOGLE_CLOUD_PROJECT"}
