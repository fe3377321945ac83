"""The sidecar's parts put together: listeners, the keeper, the secret, reloading, health.

::

    service = SidecarService(settings, environ=os.environ)
    servers = service.open()                    # bound, the secret written; nothing is answered yet
    run(servers, on_ready=service.start, on_stop=service.stop)
"""

from __future__ import annotations

__all__ = ["Part", "SidecarService"]

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import os

    from prometheus_client import CollectorRegistry

    from wif.config.sidecar import SidecarSettings
    from wif.serve.httpd import HttpServer
    from wif.serve.keeper import Keeper
    from wif.serve.sidecar import SidecarApp
    from wif.serve.sidecar_identities import Identities


class Part(Protocol):
    """What works beside the listeners, on the event loop: files, for instance."""

    def start(self) -> None:
        """Begin, on the running event loop."""

    async def stop(self) -> None:
        """End."""

    def replace(self, settings: SidecarSettings) -> None:
        """Other settings are in force; the identities have them already."""

    def problems(self) -> Sequence[str]:
        """Why the process is not ready, without names of identities."""


class SidecarService:
    """One process of the sidecar, or the serving side of ``wif run``.

    Args:
        settings: what to serve.
        environ: variables to read: the webhooks', ``IDENTITY_HEADER``, ``WIF_POD_IP`` and ``WIF_HOST_IP``, proxies.
        load: reads the settings anew; called in a thread when ``watched`` has changed. None: nothing is reloaded.
        watched: files that the settings come from.

    Raises:
        ConfigurationError: config-invalid, config-conflict.
    """

    app: SidecarApp
    identities: Identities
    keeper: Keeper
    parts: list[Part]
    """Add to it before :meth:`start`."""

    def __init__(
        self,
        settings: SidecarSettings,
        *,
        environ: Mapping[str, str],
        load: Callable[[], SidecarSettings] | None = None,
        watched: Sequence[str | os.PathLike[str]] = (),
        **identities: Any,
    ) -> None:
        raise NotImplementedError

    def open(self) -> list[HttpServer]:
        """Bind the listeners, then write the secret: a sidecar that cannot have the port leaves another's alone.

        Raises:
            ConfigurationError: config-invalid, file-unusable.
        """
        raise NotImplementedError

    def start(self) -> None:
        """Begin to keep credentials fresh, on the running event loop."""
        raise NotImplementedError

    def stop(self) -> None:
        """The word to stop has come: from now on not ready. Called on the event loop; requests are still answered."""
        raise NotImplementedError

    def close(self) -> None:
        """Forget all credentials; after the servers have stopped."""
        raise NotImplementedError

    def unhealthy(self) -> Sequence[str]:
        """Why this process should be started anew: its secret is gone."""
        raise NotImplementedError

    def unready(self) -> Sequence[str]:
        """Why an identity that is served has no credential, in numbers and codes, without names."""
        raise NotImplementedError

    def register_metrics(self, registry: CollectorRegistry, servers: Sequence[HttpServer]) -> None:
        """Have a registry show this service."""
        raise NotImplementedError
