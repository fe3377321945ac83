"""The local STS as a running server: one HTTPS listener on loopback, uvicorn in a thread, the proxy beside it.

::

    with Emulator(trust=TrustStore.from_directory("trust"), proxy=True) as emulator:
        subprocess.run([...], env={**base, **emulator.environment()})

Several can run in one process. Nothing of the exchange side ever starts one.
"""

from __future__ import annotations

__all__ = ["Emulator"]

import asyncio
import contextlib
import gc
import signal
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any

from wif.emulator.authority import LOOPBACK_NAMES, Authority
from wif.emulator.faults import Faults
from wif.emulator.hosts import Cloud, is_cloud_host
from wif.emulator.proxy import Proxy, environment
from wif.emulator.state import TrustStore
from wif.errors import ConfigurationError

if TYPE_CHECKING:
    import uvicorn

    from wif.emulator.application import Application
    from wif.emulator.notes import Note, Notes
    from wif.emulator.services import Services

START_SECONDS = 10.0
STOP_SECONDS = 5.0
KEEP_ALIVE_SECONDS = 120


class Emulator:
    """A local STS of three clouds.

    Args:
        trust: what the clouds trust; an empty one refuses everything.
        issuer_documents: where the documents of an issuer are taken from instead of the issuer itself: a directory
            or the URL of another server. Issuers that no trust document names are never asked all the same.
        authority: makes the certificates; None makes one of its own, which ends with the server.
        faults: what goes wrong on purpose.
        proxy: True also listens as the CONNECT proxy for the clouds' real host names.
        hosts: further host names with their clouds, e.g. ``{"sts.example.goog": "gcp"}``.
        issuer_ca_files: CA certificates of the issuers' servers, besides the system's and the authority's own.
        allow_local_issuers: False refuses private issuers and plain http, as the real clouds do.
        documents_max_age_seconds: how long issuers' documents are cached.
        documents_fetch_seconds: total time to fetch both documents of an issuer.
        clock: unix seconds, for tests of expiry; also moves the Date header.
        on_note: called with each :class:`~wif.emulator.notes.Note`, in the server's thread.
    """

    def __init__(
        self,
        *,
        trust: TrustStore | None = None,
        issuer_documents: Mapping[str, str | Path] | None = None,
        authority: Authority | None = None,
        faults: Faults | None = None,
        proxy: bool = False,
        hosts: Mapping[str, Cloud] | None = None,
        issuer_ca_files: Sequence[Path | str] = (),
        allow_local_issuers: bool = True,
        documents_max_age_seconds: float = 300.0,
        documents_fetch_seconds: float = 5.0,
        clock: Callable[[], float] = time.time,
        on_note: Callable[[Note], None] | None = None,
    ) -> None:
        self._trust = TrustStore() if trust is None else trust
        self._issuer_documents = {issuer: str(place) for issuer, place in (issuer_documents or {}).items()}
        self._own_authority = authority is None
        self._authority = authority
        self.faults = Faults() if faults is None else faults
        """Inject faults here."""
        self._has_proxy = proxy
        self._hosts = {name.lower(): cloud for name, cloud in (hosts or {}).items()}
        self._issuer_ca_files = tuple(Path(path) for path in issuer_ca_files)
        self._allow_local_issuers = allow_local_issuers
        self._max_age = documents_max_age_seconds
        self._fetch_seconds = documents_fetch_seconds
        self._clock = clock
        self._on_note = on_note
        self._running: _Running | None = None

    # -- life ---------------------------------------------------------------------------------------------

    def start(self, port: int = 0, proxy_port: int = 0) -> str:
        """Listen on 127.0.0.1 and return :attr:`url`; port 0 takes a free one.

        Raises:
            ConfigurationError: extra-missing; config-invalid where the port is taken.
        """
        if self._running is not None:
            return self.url
        if self._authority is None:
            self._authority = Authority()
        authority = self._authority
        services = _services(
            trust=self._trust,
            sources=self._issuer_documents,
            ca_files=(authority.ca_file, *self._issuer_ca_files),
            max_age_seconds=self._max_age,
            fetch_seconds=self._fetch_seconds,
            allow_local_issuers=self._allow_local_issuers,
            on_note=self._on_note,
        )
        running = _Running(services, self._application(services), port)
        context = authority.server_context(LOOPBACK_NAMES, admitted=self._admits)
        try:
            running.start(context)
            if self._has_proxy:
                running.proxy = Proxy(target=("127.0.0.1", running.port), admitted=self._admits)
                running.proxy.start(proxy_port)
        except BaseException:
            running.stop()
            raise
        self._running = running
        return self.url

    def stop(self) -> None:
        """End the listener and the proxy; an authority of its own ends too. It can be started again."""
        running, self._running = self._running, None
        if running is not None:
            running.stop()
        if self._own_authority and self._authority is not None:
            self._authority.close()
            self._authority = None

    def run_forever(self, port: int = 0, proxy_port: int = 0, *, on_ready: Callable[[Emulator], None]) -> None:
        """Start, tell it, and serve until SIGINT, SIGTERM or :meth:`stop`; for the command line's main thread."""
        done = threading.Event()

        def end(number: int, frame: FrameType | None) -> None:
            del number, frame
            done.set()

        previous = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            self.start(port, proxy_port)
            gc.collect()
            gc.freeze()  # what is loaded by now stays loaded: full collections need not look at it again
            on_ready(self)
            while self._running is not None and not done.wait(0.5):
                continue
        finally:
            self.stop()
            for number, handler in previous.items():
                signal.signal(number, handler)

    def __enter__(self) -> Emulator:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # -- where it is --------------------------------------------------------------------------------------

    @property
    def _live(self) -> _Running:
        if self._running is None:
            raise ConfigurationError(
                "the local STS has not been started",
                code="config-missing",
                hint="call start(), or use it in a with block",
            )
        return self._running

    @property
    def url(self) -> str:
        """``https://localhost:PORT``: the endpoint for all three clouds."""
        return f"https://localhost:{self._live.port}"

    @property
    def port(self) -> int:
        """The listener's port."""
        return self._live.port

    @property
    def authority(self) -> Authority:
        """Who made the listener's certificate; a :class:`LocalCluster` is published with the same."""
        if self._authority is None:
            self._authority = Authority()
        return self._authority

    @property
    def ca_file(self) -> Path:
        """The CA certificate that clients must trust, PEM."""
        return self.authority.ca_file

    @property
    def proxy_url(self) -> str:
        """``http://127.0.0.1:PORT`` of the CONNECT proxy."""
        proxy = self._live.proxy
        if proxy is None:
            raise ConfigurationError(
                "the local STS has no proxy", code="config-missing", hint="pass proxy=True to Emulator"
            )
        return proxy.url

    @property
    def proxy(self) -> Proxy | None:
        """The running proxy, or None."""
        return self._live.proxy

    def environment(self, inherited: Mapping[str, str] | None = None) -> dict[str, str]:
        """The variables that lead an unmodified program here.

        With the proxy: proxy and CA variables, under which the real host names lead here. Without: CA variables
        and the endpoint variables that SDKs have (``AWS_ENDPOINT_URL_STS``, ``AZURE_AUTHORITY_HOST``); Google's
        endpoints stand in its credential files.
        """
        if self._has_proxy:
            return dict(environment(self.proxy_url, self.ca_file, inherited or {}).variables)
        names = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "AWS_CA_BUNDLE", "SSL_CERT_FILE")
        return {
            **dict.fromkeys(names, str(self.ca_file)),
            "AWS_ENDPOINT_URL_STS": self.url,
            "AZURE_AUTHORITY_HOST": self.url,
        }

    # -- what it does -------------------------------------------------------------------------------------

    @property
    def trust(self) -> TrustStore:
        """What the clouds trust now. Assign a new one to change it while the server runs."""
        return self._trust

    @trust.setter
    def trust(self, store: TrustStore) -> None:
        self._trust = store
        if self._running is not None:
            self._running.services.trust = store

    @property
    def notes(self) -> Notes:
        """What real clouds would have refused."""
        return self._live.services.notes

    @property
    def exchanges(self) -> int:
        """Requests answered since the start."""
        return self._live.application.exchanges

    def forget_documents(self) -> None:
        """Drop the cached documents of all issuers: the next token makes them be fetched anew."""
        self._live.services.keys.forget()

    def _admits(self, host: str) -> bool:
        return is_cloud_host(host) or host in self._hosts

    def _application(self, services: Services) -> Application:
        from wif.emulator.application import Application  # noqa: PLC0415 - needs the extra

        return Application(services, faults=self.faults, hosts=self._hosts, clock=self._clock)


def _services(
    *,
    trust: TrustStore,
    sources: Mapping[str, str],
    ca_files: Sequence[Path],
    max_age_seconds: float,
    fetch_seconds: float,
    allow_local_issuers: bool,
    on_note: Callable[[Note], None] | None,
) -> Services:
    from wif.emulator.notes import Notes  # noqa: PLC0415
    from wif.emulator.services import Services  # noqa: PLC0415
    from wif.emulator.verification import IssuerKeys  # noqa: PLC0415

    keys = IssuerKeys(sources=sources, ca_files=ca_files, max_age_seconds=max_age_seconds, fetch_seconds=fetch_seconds)
    return Services(trust=trust, keys=keys, notes=Notes(on_note), allow_local_issuers=allow_local_issuers)


class _Running:
    """A started listener with its thread."""

    def __init__(self, services: Services, application: Application, port: int) -> None:
        self.services = services
        self.application = application
        self.proxy: Proxy | None = None
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._socket.bind(("127.0.0.1", port))
        except OSError as error:
            self._socket.close()
            raise ConfigurationError(
                f"the local STS cannot listen on 127.0.0.1:{port}: {error.strerror}", code="config-invalid"
            ) from error
        self.port: int = self._socket.getsockname()[1]
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None

    def start(self, context: Any) -> None:
        uvicorn = _uvicorn()
        from wif.emulator.listener import CuttableProtocol  # noqa: PLC0415 - needs the extra

        config = uvicorn.Config(
            self.application,
            http=CuttableProtocol,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=1,
            ssl_context_factory=lambda _config, _default: context,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._run, name="wif-local-sts", daemon=True)
        self._thread.start()
        deadline = time.monotonic() + START_SECONDS
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > deadline:
                raise ConfigurationError("the local STS did not start", code="config-invalid") from self._failure
            time.sleep(0.002)

    def _run(self) -> None:
        assert self._server is not None  # noqa: S101 - set by start
        try:
            with asyncio.Runner(loop_factory=_loop_factory()) as runner:
                runner.run(self._server.serve(sockets=[self._socket]))
        except (Exception, SystemExit) as error:  # noqa: BLE001 - handed to the thread that waits for the start
            self._failure = error

    def stop(self) -> None:
        if self.proxy is not None:
            self.proxy.stop()
        if self._server is not None and self._thread is not None:
            self._server.should_exit = True
            self._thread.join(STOP_SECONDS)
        with contextlib.suppress(OSError):
            self._socket.close()


def _uvicorn() -> Any:
    try:
        import httptools  # noqa: F401, PLC0415
        import uvicorn  # noqa: PLC0415
    except ImportError as error:
        raise ConfigurationError(
            "the local STS needs uvicorn and httptools", code="extra-missing", hint="pip install 'wif[emulator]'"
        ) from error
    return uvicorn


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop  # noqa: PLC0415 - not on every system
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory
