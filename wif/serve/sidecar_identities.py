"""The identities that a sidecar keeps: one exchanger for each, found by name, client id or e-mail address."""

from __future__ import annotations

__all__ = ["AwsServed", "AzureServed", "GcpServed", "Identities", "Served", "identity_problems"]

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from wif.config.sidecar import AwsIdentity, AzureIdentity, Cloud, GcpIdentity, Identity, SidecarSettings
from wif.core.freshness import LIMITS, Limits
from wif.exchange.aws import AwsExchanger
from wif.exchange.azure import AzureExchanger
from wif.exchange.clocks import SYSTEM, Clocks
from wif.exchange.exchanger import Sender
from wif.exchange.gcp import GcpExchanger

I = TypeVar("I", bound=Identity)  # noqa: E741  # I and X: the two sides of one identity
X = TypeVar("X", AwsExchanger, GcpExchanger, AzureExchanger)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Served(Generic[I, X]):
    """One identity: what the settings say, and what exchanges for it."""

    name: str
    settings: I
    exchanger: X
    scopes: tuple[str, ...] = ()
    """Azure: the scopes that are kept fresh, the first is the main one. Empty for the others."""


AwsServed = Served[AwsIdentity, AwsExchanger]
GcpServed = Served[GcpIdentity, GcpExchanger]
AzureServed = Served[AzureIdentity, AzureExchanger]
AnyServed = AwsServed | GcpServed | AzureServed


class Identities:
    """All identities of one configuration.

    Args:
        settings: what to serve.
        environ: variables to read instead of the process' own, proxies and CA bundles included.
        limits, clocks: of every exchanger.
        transport: makes the sender of a cloud; None: the exchangers' own.
        on_exchange: called with the name of an identity after each of its exchanges, also a failed one, on the
            exchange's own thread, with the audit record.

    Raises:
        ConfigurationError: config-invalid; one, with everything that is wrong. No request is made.
    """

    settings: SidecarSettings
    """What is served now."""
    aws: Mapping[str, AwsServed]
    """By name."""
    gcp: Mapping[str, GcpServed]
    """By name."""
    azure: Mapping[str, AzureServed]
    """By name."""

    def __init__(
        self,
        settings: SidecarSettings,
        *,
        environ: Mapping[str, str] | None = None,
        limits: Limits = LIMITS,
        clocks: Clocks = SYSTEM,
        transport: Callable[[Cloud], Sender] | None = None,
        on_exchange: Callable[[str, Mapping[str, Any]], None] | None = None,
    ) -> None:
        raise NotImplementedError

    def __iter__(self) -> Iterator[AnyServed]:
        """All of them, in the order of the settings."""
        raise NotImplementedError

    def get(self, name: str) -> AnyServed | None:
        """An identity by its name."""
        raise NotImplementedError

    def default(self, cloud: Cloud) -> AnyServed | None:
        """Whom a request means that names nobody: the default named, or the cloud's only identity."""
        raise NotImplementedError

    def by_client_id(self, client_id: str) -> AzureServed | None:
        """The Azure identity with this client id, without regard to case."""
        raise NotImplementedError

    def by_email(self, email: str) -> GcpServed | None:
        """The GCP identity that acts as this service account."""
        raise NotImplementedError

    def replace(self, settings: SidecarSettings) -> None:
        """Serve other settings: what has not changed keeps its exchanger and its credential.

        Raises:
            ConfigurationError: config-invalid; then everything stays as it was.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Forget all credentials and end exchanges under way."""
        raise NotImplementedError


def identity_problems(identity: Identity) -> tuple[str, ...]:
    """What the cloud's own rules say against an identity; ``check=`` of :func:`wif.config.sidecar.load_sidecar`."""
    raise NotImplementedError
