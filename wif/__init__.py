"""Multi-cloud workload identity federation: a projected ServiceAccount token becomes AWS, GCP and Azure credentials.

Names are loaded when they are first used (PEP 562), so that ``import wif`` costs next to nothing.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wif import emulator, sdk
    from wif.clouds.aws import ChainedRole
    from wif.core.credentials import AccessToken, AwsCredentials
    from wif.core.freshness import Limits
    from wif.core.token import TokenSource
    from wif.edges.sources import CallableSource, ProjectedFile, TokenRequestSource
    from wif.edges.token_request import BoundObject
    from wif.errors import (
        ConfigurationError,
        DriftError,
        ProtocolError,
        RefusedError,
        SubjectChanged,
        TokenError,
        TransportError,
        UnavailableError,
        WifError,
    )
    from wif.exchange.aws import AwsExchanger
    from wif.exchange.aws import AwsExchanger as aws  # noqa: N813
    from wif.exchange.azure import AzureExchanger
    from wif.exchange.azure import AzureExchanger as azure  # noqa: N813
    from wif.exchange.environment import Environment, from_env
    from wif.exchange.exchanger import Exchanger, Statistics
    from wif.exchange.gcp import GcpExchanger
    from wif.exchange.gcp import GcpExchanger as gcp  # noqa: N813

__all__ = [
    "AccessToken",
    "AwsCredentials",
    "AwsExchanger",
    "AzureExchanger",
    "BoundObject",
    "CallableSource",
    "ChainedRole",
    "ConfigurationError",
    "DriftError",
    "Environment",
    "Exchanger",
    "GcpExchanger",
    "Limits",
    "ProjectedFile",
    "ProtocolError",
    "RefusedError",
    "Statistics",
    "SubjectChanged",
    "TokenError",
    "TokenRequestSource",
    "TokenSource",
    "TransportError",
    "UnavailableError",
    "WifError",
    "__version__",
    "aws",
    "azure",
    "emulator",
    "from_env",
    "gcp",
    "sdk",
]

__version__ = "0.1.0"

_ERRORS = (
    "ConfigurationError",
    "DriftError",
    "ProtocolError",
    "RefusedError",
    "SubjectChanged",
    "TokenError",
    "TransportError",
    "UnavailableError",
    "WifError",
)
_HOMES = {
    "AccessToken": "wif.core.credentials",
    "AwsCredentials": "wif.core.credentials",
    "AwsExchanger": "wif.exchange.aws",
    "AzureExchanger": "wif.exchange.azure",
    "BoundObject": "wif.edges.token_request",
    "CallableSource": "wif.edges.sources",
    "ChainedRole": "wif.clouds.aws",
    "Environment": "wif.exchange.environment",
    "Exchanger": "wif.exchange.exchanger",
    "GcpExchanger": "wif.exchange.gcp",
    "Limits": "wif.core.freshness",
    "ProjectedFile": "wif.edges.sources",
    "Statistics": "wif.exchange.exchanger",
    "TokenRequestSource": "wif.edges.sources",
    "TokenSource": "wif.core.token",
    "from_env": "wif.exchange.environment",
    **dict.fromkeys(_ERRORS, "wif.errors"),
}
_SHORT = {"aws": "AwsExchanger", "azure": "AzureExchanger", "gcp": "GcpExchanger"}
_PACKAGES = ("emulator", "sdk")


def __getattr__(name: str) -> object:
    from importlib import import_module  # noqa: PLC0415  # nothing is imported before a name is used

    attribute = _SHORT.get(name, name)
    if name in _PACKAGES:
        value: object = import_module(f"wif.{name}")
    elif attribute in _HOMES:
        value = getattr(import_module(_HOMES[attribute]), attribute)
    else:
        raise AttributeError(f"module 'wif' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
