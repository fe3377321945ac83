"""The platform's ConfigMap, watched: cluster-wide defaults and what the platform says of ServiceAccounts.

What it said when it was last right stays in force where it is changed into something that cannot be read. Removing it
takes effect at once.
"""

from __future__ import annotations

__all__ = ["PlatformWatch"]

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from wif.edges.kube_objects import Resource
from wif.edges.watching import LIMITS, KubeObject, Watcher, WatchLimits, watch_all
from wif.errors import WifError

if TYPE_CHECKING:
    from wif.admission.platform import Platform
    from wif.config.webhook import WebhookSettings
    from wif.edges.kube import KubeClient

_LOGGER = logging.getLogger("wif.serve")


class _ConfigMap(KubeObject, gc=False):
    data: dict[str, str] | None = None


class PlatformWatch:
    """One ConfigMap; :meth:`run` is a worker of :func:`wif.serve.httpd.run`.

    Args:
        kube: who asks. Rights on ``configmaps`` of this name: ``list`` and ``watch``.
        namespace, name: which one.
        settings: what its content is read against.
        clock: seconds that never go back.

    Raises:
        ConfigurationError: config-invalid where that is no name.
    """

    def __init__(
        self,
        kube: KubeClient,
        namespace: str,
        name: str,
        settings: WebhookSettings,
        *,
        clock: Callable[[], float] = time.monotonic,
        limits: WatchLimits = LIMITS,
    ) -> None:
        resource = Resource(group="", plural="configmaps", namespace=namespace)
        resource.path(name)  # checks it
        self.name = f"the ConfigMap {namespace}/{name}"
        self.platform: Platform | None = None
        """What was read last and was right; None where there is none."""
        self.refused = 0
        """Contents that could not be read."""
        self._settings = settings
        self._refusal = ""
        self._is_there = self._was_listed = False
        self._watcher = Watcher(
            kube,
            resource.path(),
            _ConfigMap,
            self,
            name=self.name,
            field_selector=f"metadata.name={name}",
            clock=clock,
            limits=limits,
        )

    @property
    def problem(self) -> str:
        """What is wrong with it, or with looking at it; empty where nothing is."""
        if self._refusal or self._watcher.problem:
            return self._refusal or self._watcher.problem
        return "" if self._is_there or not self.synced else f"{self.name} is not there"

    @property
    def synced(self) -> bool:
        """Whether it was looked for with success; stays so."""
        return self._watcher.is_synced

    def age_seconds(self) -> float | None:
        """Since the API server was last heard of; None where it never was."""
        return self._watcher.age_seconds()

    def unready(self) -> Sequence[str]:
        """Why nothing can be answered yet: it was not looked at, or has never been right since this process began.

        Without it a ServiceAccount's own annotations would win over what the platform enforces.
        """
        if not self.synced:
            return [f"{self.name} is being read" + (f": {self._watcher.problem}" if self._watcher.problem else "")]
        if self.platform is None and self._refusal:
            return [self._refusal]
        return []

    def run(self, stopping: threading.Event) -> None:
        """Watch until the event is set."""
        watch_all([self._watcher], stopping)

    # -- told by the watch -----------------------------------------------------------------------------------------

    def list_begins(self) -> None:
        """See :class:`wif.edges.watching.Receiver`."""
        self._was_listed = False

    def list_ends(self) -> None:
        """See :class:`wif.edges.watching.Receiver`."""
        if not self._was_listed:
            self._gone()

    def put(self, item: _ConfigMap) -> None:
        """Take the new content, or say what is wrong with it and keep the last."""
        from wif.admission.platform import read_platform  # noqa: PLC0415 - YAML is loaded where a platform is watched

        self._is_there = self._was_listed = True
        try:
            platform = read_platform(item.data or {}, self._settings)
        except WifError as error:
            self.refused += 1
            refusal = f"{self.name} is refused: {error.message}"
            if refusal != self._refusal:
                kept = "what it said before stays in force" if self.platform is not None else "it has never been right"
                _LOGGER.error("%s; %s", refusal, kept, extra={"wif": {"hint": error.hint}})
            self._refusal = refusal
            return
        self._refusal = ""
        if platform != self.platform:
            self.platform = platform
            _LOGGER.info("%s is in force", self.name)

    def remove(self, item: _ConfigMap) -> None:  # noqa: ARG002 - there is only one
        """It says nothing any more."""
        self._gone()

    def _gone(self) -> None:
        if self._is_there or self.platform is not None:
            _LOGGER.warning("%s has been removed: nothing of it is in force any more", self.name)
        self._is_there, self._refusal, self.platform = False, "", None
