"""``wif issuer watch``: the controller that keeps issuers published, verified and repaired."""

from __future__ import annotations

__all__ = ["watch_command"]

import logging
import os
import socket
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from wif.cli.durations import Duration
from wif.cli.frame import command, wants_json
from wif.cli.issuer_options import ChosenIssuer, choose_issuers, issuer_options
from wif.cli.output import print_json
from wif.cli.service_log import log_options, set_up_log
from wif.errors import ConfigurationError

if TYPE_CHECKING:
    from wif.edges.kube import KubeClient
    from wif.edges.lease import Lease
    from wif.issuer.watch import Controller, Notice
    from wif.serve.health import HealthApp
    from wif.serve.httpd import HttpServer

GRACE_SECONDS = 25
"""Less than the 30 s that Kubernetes gives a pod to end."""


@command(
    "watch",
    example="wif issuer watch --issuer https://issuer.example.com --public-key sa.pub --to file:///srv/issuer",
    log_level="info",
)
@issuer_options(several=True, rotation=True)
@click.option("--lease", metavar="NAMESPACE/NAME", help="Leader election among replicas. Default: this one leads.")
@click.option("--identity", envvar="POD_NAME", metavar="NAME", help="In the Lease. Default: POD_NAME, the host's name.")
@click.option("--restore", is_flag=True, help="Also repair what only somebody else can have done.")
@click.option("--period", type=Duration(), default=300, show_default=True, help="Between rounds without a change.")
@click.option("--poll", type=Duration(), default=15, show_default=True, help="Between looks for a change.")
@click.option("--no-events", is_flag=True, help="No Kubernetes Events about the Lease.")
@click.option("--health-port", type=click.IntRange(0, 65535), help="/healthz, /readyz and /metrics. Default: none.")
@click.option("--health-host", default="::", show_default=True, help="Its address: kubelet asks from outside the pod.")
@click.option("--grace", type=Duration(), default=GRACE_SECONDS, show_default=True, help="Longest stop after SIGTERM.")
@log_options
@click.pass_context
def watch_command(context: click.Context, /, log_format: str, grace: int, **options: Any) -> None:
    """Publish, verify and repair issuers until SIGINT or SIGTERM.

    A change of a source or a target is acted upon when it is seen; everything is done anew on a period. Of several
    replicas one leads, by a Lease. What somebody else has put into a target or changed at the public address is told:
    log, metric, Event; with --restore it is repaired.
    """
    from wif.serve.httpd import run  # noqa: PLC0415  # only for this command

    set_up_log(log_format)
    chosen = choose_issuers(context)
    kube = _kube(chosen[0], options)
    lease = _lease(kube, options)
    controller = _controller(chosen, kube, lease, options)
    health, server = _health(controller, options)

    def ready() -> None:
        place = {
            "issuers": [each.settings.issuer or each.name for each in chosen],
            "lease": options["lease"],
            "health_url": server.url if server is not None else None,
        }
        if wants_json(context):
            print_json(place)
        else:
            click.echo(f"watching {len(chosen)} issuer(s)")
            if server is not None:
                click.echo(f"health at {server.url}")

    def stop() -> None:
        if health is not None:
            health.leaving = True

    try:
        run(health=server, workers=[controller.run], grace_seconds=grace, on_ready=ready, on_stop=stop)
    finally:
        if kube is not None:
            kube.close()


def _kube(first: ChosenIssuer, options: Any) -> KubeClient | None:
    """The cluster of the Lease: that of the first issuer."""
    if not options["lease"]:
        return None
    from wif.edges.kube import KubeClient  # noqa: PLC0415  # only with a cluster

    return KubeClient.find(first.settings.kubeconfig, context=first.settings.context)


def _lease(kube: KubeClient | None, options: Any) -> Lease | None:
    named: str | None = options["lease"]
    if named is None or kube is None:
        return None
    namespace, slash, name = named.partition("/")
    if not slash or not namespace or not name:
        raise ConfigurationError(
            f"--lease {named!r} is not NAMESPACE/NAME",
            code="config-invalid",
            hint="write --lease wif-system/wif-issuer",
        )
    from wif.edges.lease import Lease  # noqa: PLC0415  # only with a Lease

    # two processes of one host, or a pod that is made anew under its old name, are two contenders
    identity = f"{options['identity'] or socket.gethostname()}_{os.urandom(4).hex()}"
    return Lease(kube, namespace, name, identity=identity)


def _controller(
    chosen: Sequence[ChosenIssuer], kube: KubeClient | None, lease: Lease | None, options: Any
) -> Controller:
    from wif.edges.lease import elapsed_seconds  # noqa: PLC0415  # only for this command
    from wif.issuer.neighbours import Neighbours  # noqa: PLC0415  # only for this command
    from wif.issuer.schedule import Timing  # noqa: PLC0415  # only for this command
    from wif.issuer.watch import Controller  # noqa: PLC0415  # only for this command
    from wif.issuer.watched import PublishedIssuer  # noqa: PLC0415  # only for this command

    for each in chosen:
        if not each.settings.to:
            raise ConfigurationError(
                f"no target is named{f' for {each.name}' if each.name else ''}",
                code="config-missing",
                hint="pass --to, e.g. --to file:///srv/issuer",
            )
    neighbours = Neighbours(chosen[0].known) if chosen[0].known else None
    issuers = [
        PublishedIssuer(
            each.settings,
            name=each.name,
            neighbours=neighbours,
            guard=lease.confirm if lease is not None else None,
        )
        for each in chosen
    ]
    return Controller(
        issuers,
        lease=lease,
        timing=Timing(period_seconds=max(1, options["period"]), poll_seconds=max(1, options["poll"])),
        restore=options["restore"],
        clock=elapsed_seconds,
        tell=_teller(kube, options["lease"], options["identity"])
        if kube is not None and not options["no_events"]
        else lambda _: None,
    )


def _teller(kube: KubeClient, lease: str, instance: str | None) -> Callable[[Notice], None]:
    """Events about the Lease: it stays where it is while replicas come and go."""
    from wif.edges.events import EventRecorder, ObjectReference  # noqa: PLC0415  # only with a Lease

    namespace, _, name = lease.partition("/")
    about = ObjectReference(api_version="coordination.k8s.io/v1", kind="Lease", namespace=namespace, name=name)
    events = EventRecorder(kube, about, instance=instance)

    def tell(notice: Notice) -> None:
        note = f"{notice.issuer}: {notice.message}" if notice.issuer else notice.message
        problem = events.record(notice.kind, notice.reason, note, action=notice.action)
        if problem:
            logging.getLogger("wif.watch").warning("no Event: %s", problem)

    return tell


def _health(controller: Controller, options: Any) -> tuple[HealthApp, HttpServer] | tuple[None, None]:
    if options["health_port"] is None:
        return None, None
    from wif.serve.health import HealthApp, new_registry  # noqa: PLC0415  # only with --health-port
    from wif.serve.httpd import Address  # noqa: PLC0415  # loaded by now
    from wif.serve.metrics import WatchMetrics  # noqa: PLC0415  # only with --health-port

    registry = new_registry()
    registry.register(WatchMetrics(lambda: controller.status))
    health = HealthApp(registry=registry, unready=controller.unready, unhealthy=controller.unhealthy)
    address = Address(host=options["health_host"], port=options["health_port"])
    return health, health.server(address)
