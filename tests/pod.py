"""The pod that README, docs and examples speak of, beside a local STS that trusts its ServiceAccount."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wif.emulator import Authority, Emulator, LocalCluster, TrustStore
from wif.emulator.pod import PodIdentity, prepare_pod, trust_documents

IDENTITY = PodIdentity(
    namespace="shop",
    project_id="shop-project",
    provider="projects/123456789012/locations/global/workloadIdentityPools/pool/providers/cluster",
)
ROLE, PROVIDER, ACCOUNT = IDENTITY.role_arn, IDENTITY.provider, IDENTITY.google_service_account
TENANT, CLIENT = IDENTITY.tenant_id, IDENTITY.client_id
ANY = IDENTITY.audiences["azure"]
"""The audience of ``WIF_TOKEN_FILE``, which all three trust: Entra takes one only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """What a program in the pod finds."""

    tokens: Path
    """The projected volume: ``aws``, ``gcp``, ``azure``, ``any``."""
    environment: Mapping[str, str]
    """Everything that a program needs; nothing is inherited but the interpreter's directory."""
    emulator: Emulator


def trust(issuer: str) -> dict[str, Any]:
    """The three clouds' trust in the pod's subject, by each cloud's own audience and by ``ANY``."""
    documents = trust_documents(issuer, IDENTITY)
    documents["aws"]["OpenIDConnectProviders"][0]["ClientIDList"].append(ANY)
    conditions = documents["aws"]["Roles"][0]["AssumeRolePolicyDocument"]["Statement"][0]["Condition"]["StringEquals"]
    conditions[f"{issuer.removeprefix('https://')}:aud"] = [IDENTITY.audiences["aws"], ANY]
    documents["gcp"]["providers"][0]["oidc"]["allowedAudiences"].append(ANY)
    return documents


@contextmanager
def running_pod(folder: Path) -> Iterator[Pod]:
    """A pod with fresh tokens, and the local STS behind its proxy."""
    with Authority() as authority, LocalCluster() as cluster:
        store = TrustStore.from_mapping(trust(cluster.serve(authority)))
        with Emulator(trust=store, authority=authority, proxy=True) as emulator:
            pod = prepare_pod(folder / "pod", cluster, emulator.environment(), identity=IDENTITY)
            tokens = pod.tokens["aws"].parent
            (tokens / "any").write_text(cluster.mint(IDENTITY.namespace, IDENTITY.service_account, ANY))
            path = os.pathsep.join([str(Path(sys.executable).parent), os.defpath])
            environment = {**pod.environment, "PATH": path, "PYTHONWARNINGS": "error"}
            yield Pod(tokens=tokens, environment=environment, emulator=emulator)
