"""A cluster, the local STS of three clouds with changeable trust, and the library led there by the proxy."""

from __future__ import annotations

__all__ = ["Tampering", "World"]

import dataclasses
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl, urlencode

from wif.core.flow import Request, Response
from wif.core.freshness import Limits
from wif.core.hosts import AllowedHosts
from wif.core.jws import PrivateKey
from wif.edges.transport import Transport
from wif.emulator.authority import Authority
from wif.emulator.cluster import LocalCluster
from wif.emulator.faults import Faults
from wif.emulator.pod import POD_IDENTITY, trust_documents
from wif.emulator.server import Emulator
from wif.emulator.state import TrustStore
from wif.exchange.aws import AwsExchanger
from wif.exchange.azure import AzureExchanger
from wif.exchange.gcp import GcpExchanger

ARM = "https://management.azure.com/.default"
ONCE = Limits(attempts=1)
"""One attempt: what is tested is what an answer means, not how often it is asked for."""

Edit = Callable[[dict[str, Any]], Any]


class Tampering:
    """A sender that changes requests of one operation on their way: what this library itself never sends."""

    def __init__(self, transport: Transport, operation: str, edit: Callable[[Request], Request]) -> None:
        self._transport = transport
        self._operation = operation
        self._edit = edit

    def send(self, request: Request, *, deadline: float, hosts: AllowedHosts) -> Response:
        if request.operation == self._operation:
            request = self._edit(request)
        return self._transport.send(request, deadline=deadline, hosts=hosts)

    def abort(self, thread: int | None = None) -> None:
        self._transport.abort(thread)


class World:
    """One cluster and one local STS. ``change_trust`` changes what the clouds trust."""

    identity = POD_IDENTITY

    def __init__(self, authority: Authority, key: PrivateKey, **emulator: Any) -> None:
        self.faults = Faults()
        self.cluster = LocalCluster(key=key)
        self.cluster.serve(authority, faults=self.faults)
        self.documents = trust_documents(self.cluster.issuer, self.identity)
        self.emulator = Emulator(
            trust=TrustStore.from_mapping(self.documents),
            authority=authority,
            faults=self.faults,
            proxy=True,
            **emulator,
        )
        self.emulator.start()
        self._variables = self.emulator.environment()

    def close(self) -> None:
        self.emulator.stop()
        self.cluster.stop()

    def change_trust(self, change: Callable[[dict[str, Any]], Any]) -> None:
        """Change the trust documents, e.g. ``lambda trust: trust["aws"]["Roles"].clear()``."""
        change(self.documents)
        self.emulator.trust = TrustStore.from_mapping(self.documents)

    def token(self, cloud: str, **changes: Any) -> str:
        """A token for a cloud; ``changes`` as of ``LocalCluster.mint``."""
        arguments: dict[str, Any] = {
            "namespace": self.identity.namespace,
            "service_account": self.identity.service_account,
            "audience": self.identity.audiences[cloud],
            "pod": self.identity.pod,
        }
        return self.cluster.mint(**(arguments | changes))

    def transport(self, cloud: str) -> Transport:
        return Transport(cloud, environ=self._variables)

    def settings(self, cloud: str, **changes: Any) -> dict[str, Any]:
        token = changes.pop("token", None) or self.token(cloud, **changes.pop("mint", {}))
        return {
            "source": lambda: token,
            "transport": self.transport(cloud),
            "limits": ONCE,
            "environ": {},
            **changes,
        }

    def aws(self, role_arn: str | None = None, **changes: Any) -> AwsExchanger:
        settings = {"region": self.identity.region} | self.settings("aws", **changes)
        return AwsExchanger(role_arn or self.identity.role_arn, **settings)

    def gcp(self, provider: str | None = None, service_account: str | None = None, **changes: Any) -> GcpExchanger:
        return GcpExchanger(provider or self.identity.provider, service_account, **self.settings("gcp", **changes))

    def azure(self, tenant_id: str | None = None, client_id: str | None = None, **changes: Any) -> AzureExchanger:
        settings = {"scope": ARM} | self.settings("azure", **changes)
        return AzureExchanger(tenant_id or self.identity.tenant_id, client_id or self.identity.client_id, **settings)

    def tampering(self, cloud: str, operation: str, edit: Edit) -> Tampering:
        """A sender that edits the form (or JSON object) of one operation's requests."""
        return Tampering(self.transport(cloud), operation, lambda request: _edited(request, edit))

    def replacing(self, cloud: str, operation: str, **changes: Any) -> Tampering:
        """A sender that replaces parts of one operation's requests: method, url, headers, body."""
        return Tampering(self.transport(cloud), operation, lambda request: dataclasses.replace(request, **changes))


def _edited(request: Request, edit: Edit) -> Request:
    if request.body.startswith(b"{"):
        document: dict[str, Any] = json.loads(request.body)
        edit(document)
        return dataclasses.replace(request, body=json.dumps(document).encode())
    form: dict[str, Any] = dict(parse_qsl(request.body.decode(), keep_blank_values=True))
    edit(form)
    return dataclasses.replace(request, body=urlencode(form).encode())
