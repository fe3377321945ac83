"""The native dialect's volume on the real API server: it is taken, and stored as it was injected."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from typing import Any

import pytest

from wif.admission.accounts import ServiceAccount
from wif.admission.mutation import mutate
from wif.admission.patch import apply_patch
from wif.admission.readings import Readings
from wif.admission.review import pod_review
from wif.config.webhook import WebhookSettings
from wif.emulator.apiserver import ApiServer

pytestmark = [pytest.mark.integration, pytest.mark.one_python]

PROVIDER = "projects/1/locations/global/workloadIdentityPools/pool/providers/cluster"
GUID = "11111111-2222-3333-4444-555555555555"
LONGEST = "x" * 32
ANNOTATIONS = {
    "aws.role-arn": "arn:aws:iam::111122223333:role/app",
    "aws.writer.role-arn": "arn:aws:iam::111122223333:role/writer",
    "aws.writer.audience": "other",
    "gcp.provider": PROVIDER,
    f"gcp.{LONGEST}.service-account": "app@my-project.iam.gserviceaccount.com",
    f"gcp.{LONGEST}.provider": PROVIDER,
    f"gcp.{LONGEST}.audience": "another",
    "azure.client-id": GUID,
    "azure.tenant-id": GUID,
    f"azure.{LONGEST}.client-id": GUID,
}


@pytest.mark.parametrize("spec", [{"securityContext": {"fsGroup": 1000}}, {"os": {"name": "windows"}}])
def test_what_is_injected_is_what_is_stored(api_server: ApiServer, spec: Mapping[str, Any]) -> None:
    """Else a second call would find other content than its own."""
    namespace = f"native-{uuid.uuid4().hex[:6]}"
    api_server.create_namespace(namespace)
    api_server.create_service_account(namespace, "app")
    settings = WebhookSettings(azure_tenant_id=GUID)
    annotations = {f"wif.internal/{key}": value for key, value in ANNOTATIONS.items()}
    account = ServiceAccount(namespace, "app", "u-1", annotations)
    pod: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "app", "annotations": {"wif.internal/use.b": f"aws=writer,gcp={LONGEST},azure=none"}},
        "spec": {
            "serviceAccountName": "app",
            "containers": [{"name": name, "image": "example.invalid/none"} for name in ("a", "b")],
            **spec,
        },
    }

    def decided(given: Mapping[str, Any]) -> Any:
        review = pod_review(json.dumps(given).encode(), namespace=namespace)
        return mutate(review, {(namespace, "app"): account}, settings, None, readings=Readings(), new_secret=str)

    first = decided(pod)
    assert [finding for finding in first.findings if finding.level != "note"] == []
    injected = apply_patch(pod, first.patch)
    stored = api_server.create(f"/api/v1/namespaces/{namespace}/pods", injected)
    assert volume(stored) == volume(injected)
    assert len(volume(stored)["projected"]["sources"]) == 6
    assert decided(stored).patch is None


def volume(pod: Mapping[str, Any]) -> dict[str, Any]:
    (found,) = [each for each in pod["spec"]["volumes"] if each["name"] == "wif"]
    assert isinstance(found, dict)
    return found
