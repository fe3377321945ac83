"""The local STS: AWS', Google's and Microsoft's token services on loopback, for tests, demos and proofs.

It really verifies tokens and evaluates real trust documents, and it is never mistaken for a cloud: it binds to
loopback, its certificate authority is made anew at every start and called "wif local STS", and what it issues and
answers carries a plain mark. As a pytest plugin (``pytest_plugins = ["wif.emulator"]``) it brings fixtures.

Names are loaded when they are asked for: importing this package costs next to nothing.
"""

from __future__ import annotations

__all__ = ["Authority", "Emulator", "Fault", "Faults", "LocalCluster", "Proxy", "TrustStore"]

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wif.emulator.authority import Authority
    from wif.emulator.cluster import LocalCluster
    from wif.emulator.faults import Fault, Faults
    from wif.emulator.proxy import Proxy
    from wif.emulator.server import Emulator
    from wif.emulator.state import TrustStore

_MODULES = {
    "Authority": "authority",
    "Emulator": "server",
    "Fault": "faults",
    "Faults": "faults",
    "LocalCluster": "cluster",
    "Proxy": "proxy",
    "TrustStore": "state",
}
pytest_plugins = ["wif.emulator.fixtures"]
"""What pytest loads besides where this package is named as a plugin, and nobody else does."""


def __getattr__(name: str) -> object:
    import importlib  # noqa: PLC0415 - only when a name is asked for

    if name in _MODULES:
        value: object = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
