"""``wif sidecar serve``: credentials on loopback."""

from __future__ import annotations

__all__ = ["serve_command"]

import os
import signal
from typing import TYPE_CHECKING, Any, NoReturn

import click

from wif.cli.durations import Duration
from wif.cli.frame import command, wants_json
from wif.cli.output import print_json
from wif.cli.service_log import log_options, set_up_log
from wif.cli.sidecar_options import sidecar_options, sidecar_source

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wif.config.sidecar import SidecarSettings
    from wif.serve.health import HealthApp
    from wif.serve.httpd import HttpServer
    from wif.serve.sidecar_files import SidecarFiles
    from wif.serve.sidecar_service import SidecarService

INIT_SECONDS = 120
"""An outage may end meanwhile; the kubelet starts an init container that failed anew, later each time."""
GRACE_SECONDS = 10
"""A native sidecar is stopped when the applications have gone: nobody asks any more."""
_TERMINATED = 143
"""As a shell says of a program that SIGTERM ended."""


@command("serve", example="wif sidecar serve --gce-metadata", log_level="info")
@sidecar_options
@click.option("--init", is_flag=True, help="Write the files once and end; serve nothing.")
@click.option("--wait", type=Duration(), default=INIT_SECONDS, show_default=True, help="With --init: how long.")
@click.option("--no-health", is_flag=True, help="No /healthz, /readyz and /metrics.")
@click.option("--max-connections", type=click.IntRange(1, 100_000), default=2000, show_default=True, help="At most.")
@click.option("--grace", type=Duration(), default=GRACE_SECONDS, show_default=True, help="Longest stop after SIGTERM.")
@click.option("--access-log", is_flag=True, help="A line for each request, without headers.")
@log_options
@click.pass_context
def serve_command(context: click.Context, /, log_format: str, grace: int, **options: Any) -> None:
    """Serve credentials until SIGINT or SIGTERM, and keep the files that the settings name.

    Ready once every identity that is served has a credential. A change of the settings file is taken up while
    running; a wrong one is reported, and the settings before it stay.

    With --init it returns when every identity has been exchanged once and every file is written, as an init container
    does; a refusal ends it at once.
    """
    # before anything is waited for: the kernel keeps a signal that nobody handles from a container's first process
    signal.signal(signal.SIGTERM, _end)
    set_up_log(log_format)
    source = sidecar_source(context)
    settings = source.load()
    if options["init"]:
        _init(context, settings, options["wait"])
        return
    from wif.serve.sidecar_service import SidecarService  # noqa: PLC0415  # only for this command

    service = SidecarService(
        settings,
        load=source.load,
        watched=source.watched,
        connections=options["max_connections"],
    )
    try:
        _serve(context, service, grace, options)
    finally:
        service.close()


def _end(*_: object) -> NoReturn:
    """What SIGTERM does until the servers listen, and with --init: everything is closed as after an error."""
    raise SystemExit(_TERMINATED)


def _init(context: click.Context, settings: SidecarSettings, wait_seconds: int) -> None:
    import asyncio  # noqa: PLC0415  # only for this command

    from wif.serve.first_credentials import prepare_files  # noqa: PLC0415  # only with --init

    written = asyncio.run(prepare_files(settings, environ=os.environ, wait_seconds=wait_seconds))
    if wants_json(context):
        print_json({"identities": list(settings.served), "files": [file.path for file in settings.files]})
    else:
        click.echo(f"{len(settings.served)} identities are ready, {written} files are written")


def _serve(context: click.Context, service: SidecarService, grace: int, options: Any) -> None:
    from wif.serve.httpd import logged, run  # noqa: PLC0415  # only for this command
    from wif.serve.sidecar_files import SidecarFiles  # noqa: PLC0415  # only for this command

    files = SidecarFiles(service.identities, service.keeper, environ=os.environ)
    service.parts.append(files)
    servers = service.open(logged if options["access_log"] else None)
    health, health_server = (None, None) if options["no_health"] else _health(service, files, servers)

    def ready() -> None:
        service.start()
        place = {
            "urls": [server.url for server in servers],
            "interfaces": list(service.interfaces),
            "health_url": health_server.url if health_server is not None else None,
        }
        if wants_json(context):
            print_json(place)
        else:
            click.echo(f"serving credentials at {', '.join(place['urls'] or ())}")
            if health_server is not None:
                click.echo(f"health {_where(health_server)}")

    def stop() -> None:
        service.stop()
        if health is not None:
            health.leaving = True

    run(servers, health=health_server, grace_seconds=grace, on_ready=ready, on_stop=stop)


def _where(server: HttpServer) -> str:
    """For people: a URL would name one address where it listens on all."""
    if server.host in ("", "0.0.0.0", "::"):  # noqa: S104  # compared only
        return f"on port {server.port} of every address"
    return f"at {server.url}"


def _health(
    service: SidecarService, files: SidecarFiles, servers: Sequence[HttpServer]
) -> tuple[HealthApp, HttpServer]:
    from wif.serve.health import HealthApp, new_registry  # noqa: PLC0415  # not with --no-health
    from wif.serve.httpd import Address  # noqa: PLC0415  # loaded by now

    registry = new_registry()
    service.register_metrics(registry, servers)
    files.register_metrics(registry)
    health = HealthApp(registry=registry, unhealthy=service.unhealthy, unready=service.unready)
    address = Address.parse(service.settings.health_address)
    return health, health.server(address)
