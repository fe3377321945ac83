"""The sidecar's parts put together: listeners, the keeper, the secret, reloading, health.

::

    service = SidecarService(settings)
    servers = service.open()                    # bound, the secret written; nothing is answered yet
    run(servers, on_ready=service.start, on_stop=service.stop)
    service.close()
"""

from __future__ import annotations

__all__ = ["Part", "SidecarService"]

import asyncio
import logging
import os
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from msgspec.structs import replace

from wif.edges.files import replace_file
from wif.errors import ConfigurationError
from wif.serve.httpd import HttpServer
from wif.serve.keeper import Keeper
from wif.serve.loopback_guard import LoopbackGuard, loopback_address, require_own_network
from wif.serve.sidecar import MAX_CONNECTIONS, Mount, SidecarApp, limits
from wif.serve.sidecar_aws import AwsEndpoint
from wif.serve.sidecar_identities import Identities
from wif.serve.threads import NoThread, in_thread

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from wif.config.sidecar import Cloud, SidecarSettings
    from wif.serve.httpd import App, Scope

_LOGGER = logging.getLogger("wif.serve")

WATCH_SECONDS = 2.0
"""How often the files of the settings are looked at."""
_SECRET_BYTES = 32
_FIXED = ("listen", "health_address", "secret_file", "secret_mode", "force_host_network")
"""Settings that count from the next start."""

_NO_DIRECTORY = (
    "name another place (--secret-file); in a pod mount a memory-backed emptyDir there, into the sidecar and the "
    "containers that may have credentials"
)
_HEADER_CHARACTERS_MIN = 16
_GIVE_HEADER = "give the sidecar the same random IDENTITY_HEADER as the application"
_OFF: Mapping[Cloud, str] = {
    "aws": "aws_container is off",
    "gcp": "gce_metadata is off",
    "azure": "app_service (which needs IDENTITY_HEADER) and imds are off",
}


class Part(Protocol):
    """What works beside the listeners, on the event loop: files, for instance. It ends with the loop."""

    def check(self, settings: SidecarSettings) -> Sequence[ConfigurationError]:
        """What is wrong with these settings, at the start or before they are in force; nothing is changed.

        What an application could have done to what is kept already is a problem, and no reason to go on without them.
        """
        ...

    def start(self) -> None:
        """Begin, on the running event loop."""

    def replace(self, settings: SidecarSettings) -> None:
        """Other settings are in force; the identities have them already."""

    def problems(self) -> Sequence[str]:
        """Why the process is not ready, without names of identities."""
        ...


class SidecarService:
    """One process of the sidecar, or the serving side of ``wif run``.

    Args:
        settings: what to serve.
        environ: variables to read in place of the process' own: ``IDENTITY_HEADER``, ``WIF_POD_IP`` and
            ``WIF_HOST_IP``, proxies, defaults of the clouds.
        load: reads the settings anew; called in a thread when ``watched`` has changed. None: nothing is reloaded.
        watched: files that the settings come from.
        connections: at once, of each listener.
        same_user: who may ask interfaces without a secret, see :mod:`wif.serve.peer_user`; None: everybody here.
        identities: further arguments of :class:`~wif.serve.sidecar_identities.Identities`.

    Raises:
        ConfigurationError: config-invalid, config-conflict.
    """

    def __init__(
        self,
        settings: SidecarSettings,
        *,
        environ: Mapping[str, str] | None = None,
        load: Callable[[], SidecarSettings] | None = None,
        watched: Sequence[str | os.PathLike[str]] = (),
        connections: int = MAX_CONNECTIONS,
        same_user: Callable[[Scope], bool] | None = None,
        **identities: Any,
    ) -> None:
        given = os.environ if environ is None else environ
        require_own_network(given, is_forced=settings.force_host_network)
        self._identity_header = _identity_header(given)
        self._load = load
        self._watched = tuple(os.fspath(path) for path in watched)
        self._limits = limits(connections)
        self._secret = os.urandom(_SECRET_BYTES).hex().encode()
        self._secret_written = False
        self._started = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._lock = threading.Lock()
        self.exchanges: Counter[tuple[str, str]] = Counter()
        """By cloud and outcome, those of identities that are gone included."""
        self.reloads = 0
        self.reload_failures = 0
        self.parts: list[Part] = []
        """Add to it before :meth:`open`."""
        settings = self._effective(settings)
        self._say_unserved(settings)
        self.identities = Identities(settings, environ=environ, **identities)
        self.identities.listen(self._count)
        self.keeper = Keeper(self.identities)
        self.app = SidecarApp(LoopbackGuard(same_user=same_user), self._mounts(settings))

    @property
    def settings(self) -> SidecarSettings:
        """What is served now."""
        return self.identities.settings

    # -- beginning and end -------------------------------------------------------------------------------------

    def open(self, wrapped: Callable[[App], App] | None = None) -> list[HttpServer]:
        """Bind the listeners, then write the secret: a sidecar that cannot have the port leaves another's alone.

        Args:
            wrapped: put around the application, e.g. :func:`wif.serve.httpd.logged`.

        Raises:
            ConfigurationError: config-missing, config-invalid, file-unusable; one, with everything that is wrong.
        """
        self._check(self.settings)
        servers = []
        app: App = self.app if wrapped is None else wrapped(self.app)
        for text in self.settings.listen:
            server = HttpServer(app, address=loopback_address(text), limits=self._limits, name="credentials")
            self.app.guard.allow(server.host, server.port)
            servers.append(server)
        self._write_secret(self.settings)
        return servers

    def start(self) -> None:
        """Begin to keep credentials fresh, on the running event loop; the keeper may have begun before."""
        self._started = True
        self.keeper.start()
        for part in self.parts:
            part.start()
        if self._load is not None:
            task = asyncio.get_running_loop().create_task(self._watch(self._load))
            self._tasks.add(task)
            task.add_done_callback(self._ended)

    def stop(self) -> None:
        """The word to stop has come: nothing is reloaded any more. Requests are answered to the end."""
        for task in self._tasks:
            task.cancel()

    def close(self) -> None:
        """Forget all credentials; after the servers have stopped."""
        self.identities.close()

    def _write_secret(self, settings: SidecarSettings) -> None:
        if self._secret_written or not settings.serves_aws_container:
            return
        try:
            replace_file(settings.secret_file, self._secret, mode=settings.secret_mode)
        except OSError as error:
            raise _secret_unwritable(settings, str(error.strerror)) from error
        self._secret_written = True

    def _mounts(self, settings: SidecarSettings) -> Mapping[str, Mount]:
        mounts: dict[str, Mount] = {}
        if settings.serves_aws_container:
            mounts["aws"] = Mount("aws", AwsEndpoint(self.identities, secret=self._secret))
        if settings.gce_metadata:
            from wif.serve.sidecar_gce import GceMetadata  # noqa: PLC0415 - only where it is switched on

            mounts[""] = mounts["computeMetadata"] = Mount("gce", GceMetadata(self.identities), True)
        if settings.serves_app_service:
            from wif.serve.sidecar_azure import AppService  # noqa: PLC0415 - only with an Azure identity

            # an empty one lets nobody in
            mounts["azure"] = Mount("app-service", AppService(self.identities, secret=self._identity_header))
        if settings.imds:
            from wif.serve.sidecar_azure import Imds  # noqa: PLC0415 - only where it is switched on

            mounts["metadata"] = Mount("imds", Imds(self.identities), True)
        return mounts

    def _effective(self, settings: SidecarSettings) -> SidecarSettings:
        """App Service's endpoint, where nobody asked for it, needs its secret to be there."""
        if settings.app_service is None and not self._identity_header:
            return replace(settings, app_service=False)
        return settings

    def _check(self, settings: SidecarSettings) -> None:
        """Look at everything that can be known before settings are in force.

        Raises:
            ConfigurationError: config-missing, file-unusable, those of the parts; one, with everything that is wrong.
        """
        wrong: list[ConfigurationError] = []
        if settings.serves_app_service and not self._identity_header:
            wrong.append(
                ConfigurationError(
                    "App Service's endpoint is to be served, and IDENTITY_HEADER is not set",
                    code="config-missing",
                    hint=f"{_GIVE_HEADER}, or say app_service: false",
                )
            )
        elif not settings.served:
            wrong.append(
                ConfigurationError(
                    "no identity is served to anybody: App Service's endpoint needs IDENTITY_HEADER, which is not set",
                    code="config-missing",
                    hint=f"{_GIVE_HEADER}, switch another interface on, or name files",
                )
            )
        if settings.serves_aws_container and not self._secret_written:
            directory = os.path.dirname(settings.secret_file)  # noqa: PTH120
            if not (os.path.isdir(directory) and os.access(directory, os.W_OK | os.X_OK)):  # noqa: PTH112
                wrong.append(_secret_unwritable(settings, "its directory is not there, or may not be written to"))
        for part in self.parts:
            wrong += part.check(settings)
        if wrong:
            raise ConfigurationError.of_all(wrong)

    def _say_unserved(self, settings: SidecarSettings) -> None:
        for name in sorted(set(settings.identities) - set(settings.served)):
            cloud = settings.identities[name].cloud
            _LOGGER.warning(
                "the identity %s (%s) is served to nobody: no file holds it, and %s", name, cloud, _OFF[cloud]
            )

    @property
    def interfaces(self) -> tuple[str, ...]:
        """What is served, as metrics call it."""
        return tuple(dict.fromkeys(mount.interface for mount in self.app.mounts.values()))

    # -- new settings ------------------------------------------------------------------------------------------

    async def _watch(self, load: Callable[[], SidecarSettings]) -> None:
        seen: tuple[object, ...] | None = None  # it may have changed since it was read
        is_read = True
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            stamp = self._stamp()
            if stamp == seen:
                continue
            try:
                self.apply(await in_thread(load))
            except NoThread as error:
                if is_read:
                    _LOGGER.error("the settings cannot be read anew, and will be tried again: %s", error)
                is_read = False
                continue
            except ConfigurationError as error:
                self.reload_failures += 1
                _LOGGER.error("the new settings are not used, those before stay: %s", error.message)
            if not is_read:
                _LOGGER.info("the settings are read again")
            seen, is_read = stamp, True

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _LOGGER.critical("settings are not reloaded any more: an unexpected %s, a defect", type(error).__name__)

    def apply(self, settings: SidecarSettings) -> None:
        """Serve other settings from now on. What has not changed keeps its credential.

        Raises:
            ConfigurationError: then everything stays as it was.
        """
        before = self.settings
        kept = {name: getattr(before, name) for name in _FIXED}
        waiting = [name for name, value in kept.items() if getattr(settings, name) != value]
        if waiting:
            _LOGGER.warning("these settings count from the next start: %s", ", ".join(waiting))
        settings = self._effective(replace(settings, **kept))
        if settings == before:
            return
        self._check(settings)
        mounts = self._mounts(settings)
        self.identities.replace(settings)
        self._write_secret(settings)
        self.app.mounts = mounts
        for part in self.parts:
            part.replace(settings)
        self.keeper.wake()
        self.reloads += 1
        self._say_unserved(settings)
        _LOGGER.info("the new settings are in use", extra={"wif": {"identities": len(settings.identities)}})

    def _stamp(self) -> tuple[object, ...]:
        found: list[object] = []
        for path in self._watched:
            try:
                status = os.stat(path)  # noqa: PTH116
            except OSError as error:
                found.append(error.errno)
            else:
                found.append((status.st_mtime_ns, status.st_ino, status.st_size))
        return tuple(found)

    # -- what is so --------------------------------------------------------------------------------------------

    def _count(self, _: str, record: Mapping[str, Any]) -> None:
        with self._lock:  # on the exchanges' threads
            self.exchanges[record["cloud"], record["outcome"]] += 1

    def unhealthy(self) -> Sequence[str]:
        """Why this process should be started anew: its secret is gone."""
        if self._secret_written and not os.path.lexists(self.settings.secret_file):
            return ["the file of the secret is gone"]
        return []

    def unready(self) -> Sequence[str]:
        """Why an identity that is served has no credential, in numbers and codes, without names."""
        if not self._started:
            return ["not started yet"]
        reasons = [reason for part in self.parts for reason in part.problems()]
        if not self.keeper.ready():
            states, identities = self.keeper.states, self.settings.identities
            counts = Counter(
                (identities[name].cloud, f"{kept.state}, {kept.code}" if kept.code else kept.state)
                for name, kept in states.items()
                if kept.state != "ready" and name in identities
            )
            reasons += [
                f"identities of {cloud} without a credential: {number} ({what})"
                for (cloud, what), number in counts.items()
            ]
            reasons = reasons or ["not all identities were looked at yet"]
        return reasons

    def register_metrics(self, registry: CollectorRegistry, servers: Sequence[HttpServer]) -> None:
        """Have a registry show this service; its parts have metrics of their own."""
        from wif.serve.sidecar_metrics import SidecarMetrics  # noqa: PLC0415 - an extra

        registry.register(SidecarMetrics(self, servers))


def _identity_header(environ: Mapping[str, str]) -> str:
    """The secret of App Service's endpoint, which the application's variables hold as well; empty where there is none.

    Raises:
        ConfigurationError: config-invalid.
    """
    value = environ.get("IDENTITY_HEADER", "").strip()  # a Secret made from a file often ends with a newline
    if value and not (len(value) >= _HEADER_CHARACTERS_MIN and value.isascii() and value.isprintable()):
        raise ConfigurationError(
            "IDENTITY_HEADER is no secret that can be sent in a header",
            code="config-invalid",
            hint=f"give it at least {_HEADER_CHARACTERS_MIN} random characters of visible ASCII: openssl rand -hex 32",
        )
    return value


def _secret_unwritable(settings: SidecarSettings, why: str) -> ConfigurationError:
    return ConfigurationError(
        f"the secret cannot be written to {settings.secret_file}: {why}", code="file-unusable", hint=_NO_DIRECTORY
    )
