"""Native credential objects of the SDKs, kept fresh by one exchanger each.

Importing this package loads no SDK; ``wif.sdk.aws`` and its siblings load theirs when they are first named. Where
an SDK is not installed, naming its module raises :class:`~wif.errors.ConfigurationError` with the extra's name.
"""

from __future__ import annotations

__all__ = ["aiobotocore", "aws", "azure", "gcp"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType

    from wif.sdk import aiobotocore as aiobotocore
    from wif.sdk import aws as aws
    from wif.sdk import azure as azure
    from wif.sdk import gcp as gcp


def __getattr__(name: str) -> ModuleType:
    """A submodule, loaded when it is first named."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib  # noqa: PLC0415 - not needed by programs that never name an SDK

    return importlib.import_module(f"{__name__}.{name}")
