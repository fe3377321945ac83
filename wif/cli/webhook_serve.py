"""``wif webhook serve``: the admission webhook over HTTPS."""

from __future__ import annotations

__all__ = ["serve_command"]

import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wif.cli.durations import Duration
from wif.cli.frame import command, wants_json
from wif.cli.output import print_json
from wif.cli.service_log import log_options, set_up_log
from wif.cli.webhook_options import webhook_options, webhook_settings
from wif.errors import ConfigurationError

if TYPE_CHECKING:
    from wif.edges.kube import KubeClient
    from wif.serve.certificates import Certificate
    from wif.serve.health import HealthApp
    from wif.serve.httpd import HttpServer
    from wif.serve.webhook_service import ServiceOptions, WebhookService

GRACE_SECONDS = 25
"""Less than the 30 s that Kubernetes gives a pod to end."""


@command("serve", example="wif webhook serve --tls-cert tls.crt --tls-key tls.key", log_level="info")
@webhook_options
@click.option("--kubeconfig", metavar="PATH", help="Default: the pod's own cluster, else kubectl's.")
@click.option("--context", "kube_context", metavar="NAME", help="Context of the kubeconfig.")
@click.option("--host", default="::", show_default=True, help="Address to listen on; :: is every one.")
@click.option("--port", type=click.IntRange(0, 65535), default=8443, show_default=True, help="0 takes a free one.")
@click.option("--fd", type=click.IntRange(3, 65535), help="A listening socket that this process inherits.")
@click.option("--tls-cert", metavar="FILE", type=click.Path(path_type=Path), help="PEM chain; read anew on change.")
@click.option("--tls-key", metavar="FILE", type=click.Path(path_type=Path), help="Its key. Default: in --tls-cert.")
@click.option(
    "--self-managed", metavar="NAMESPACE/NAME", help="Secret for a certificate that is made and rotated here."
)
@click.option("--tls-name", "tls_names", metavar="NAME", multiple=True, help="That it is made for; repeatable.")
@click.option("--mutating-configuration", "mutating", metavar="NAME", multiple=True, help="Whose caBundle is kept.")
@click.option("--validating-configuration", "validating", metavar="NAME", multiple=True, help="The same.")
@click.option("--certificate-life", type=Duration(), default=90 * 86_400, help="Of one made here. Default: 90d.")
@click.option("--watch-namespace", "namespaces", metavar="NAME", multiple=True, help="Only these; repeatable.")
@click.option(
    "--exclude-namespace",
    "excluded",
    metavar="NAME",
    multiple=True,
    help="Where no pod is missed, as render leaves it out; repeatable. Default: kube-system and the webhook's own.",
)
@click.option("--platform-config", metavar="NAMESPACE/NAME", help="ConfigMap of the platform's defaults and mappings.")
@click.option("--wait", default=1.0, show_default=True, type=click.FloatRange(0, 3), help="For a new ServiceAccount.")
@click.option("--no-events", is_flag=True, help="No Kubernetes Events.")
@click.option("--find-unmutated", type=Duration(), default=300, show_default=True, help="Time between looks; 0: none.")
@click.option("--lease", metavar="NAMESPACE/NAME", help="Which replica looks for unmutated pods. Default: each one.")
@click.option("--identity", envvar="POD_NAME", metavar="NAME", help="In Events. Default: POD_NAME, the host's name.")
@click.option("--health-port", type=click.IntRange(0, 65535), help="/healthz, /readyz and /metrics. Default: none.")
@click.option("--health-host", default="::", show_default=True, help="Its address: kubelet asks from outside the pod.")
@click.option("--max-connections", type=click.IntRange(1, 100_000), default=2000, show_default=True, help="At most.")
@click.option("--grace", type=Duration(), default=GRACE_SECONDS, show_default=True, help="Longest stop after SIGTERM.")
@click.option("--drain-delay", type=Duration(), default=0, show_default=True, help="Accept so long after SIGTERM.")
@click.option("--access-log", is_flag=True, help="A line for each request.")
@log_options
@click.pass_context
def serve_command(context: click.Context, /, log_format: str, grace: int, **options: Any) -> None:
    """Answer the API server's reviews until SIGINT or SIGTERM.

    Ready once every ServiceAccount has been received and the certificate is one that the API server accepts. With
    --self-managed, certificate and authority are made here, kept in the Secret for all replicas, rotated, and written
    into the caBundle of the configurations that are named. With --watch-namespace, Roles in place of ClusterRoles do.
    """
    set_up_log(log_format)
    settings = webhook_settings(context)
    if (options["self_managed"] is None) == (options["tls_cert"] is None):
        raise ConfigurationError(
            "exactly one of --tls-cert and --self-managed is needed",
            code="config-missing",
            hint="the API server speaks TLS only: pass the files of a certificate, or the Secret to keep one in",
        )
    chosen, _ = _service_options(options), _named(options, "self_managed")
    if options["self_managed"] is not None and not options["tls_names"]:
        raise ConfigurationError(
            "no name for the certificate is given",
            code="config-missing",
            hint="pass the Service's name as the API server calls it: --tls-name SERVICE.NAMESPACE.svc",
        )
    from wif.edges.kube import KubeClient  # noqa: PLC0415  # only for this command
    from wif.serve.webhook_service import WebhookService  # noqa: PLC0415  # only for this command

    kube = KubeClient.find(options["kubeconfig"], context=options["kube_context"])
    try:
        _serve(context, WebhookService(kube, settings, chosen), kube, grace, options)
    finally:
        kube.close()


def _serve(context: click.Context, service: WebhookService, kube: KubeClient, grace: int, options: Any) -> None:
    from wif.serve.httpd import run  # noqa: PLC0415  # only for this command

    with _private_directory() as directory:
        server = _server(service, _certificate(service, kube, directory, options), options)
        health, health_server = _health(service, server, options)

        def ready() -> None:
            place = {
                "url": server.url,
                "watch_namespaces": list(options["namespaces"]),
                "health_url": health_server.url if health_server is not None else None,
            }
            if wants_json(context):
                print_json(place)
            else:
                click.echo(f"answering reviews at {server.url}")
                if health_server is not None:
                    click.echo(f"health at {health_server.url}")

        def stop() -> None:
            if health is not None:
                health.leaving = True

        run(
            [server],
            health=health_server,
            workers=service.workers,
            grace_seconds=grace,
            on_ready=ready,
            on_stop=stop,
        )


@contextmanager
def _private_directory() -> Iterator[str]:
    """For the pair that is made here; the chart puts it in memory."""
    with tempfile.TemporaryDirectory(prefix="wif-webhook-") as directory:  # mode 0700
        yield directory


def _service_options(options: Any) -> ServiceOptions:
    from wif.serve.webhook_service import ServiceOptions  # noqa: PLC0415  # only for this command

    return ServiceOptions(
        namespaces=options["namespaces"],
        excluded=options["excluded"] or None,
        platform_config=_named(options, "platform_config"),
        wait_seconds=options["wait"],
        with_events=not options["no_events"],
        unmutated_seconds=options["find_unmutated"],
        lease=_named(options, "lease"),
        instance=options["identity"],
    )


def _named(options: Any, setting: str) -> tuple[str, str] | None:
    text: str | None = options[setting]
    if text is None:
        return None
    namespace, slash, name = text.partition("/")
    if not slash or not namespace or not name or "/" in name:
        flag = f"--{setting.replace('_', '-')}"
        raise ConfigurationError(
            f"{flag} {text[:128]!r} is not NAMESPACE/NAME",
            code="config-invalid",
            hint=f"write {flag} wif-system/wif-webhook",
        )
    return namespace, name


def _certificate(service: WebhookService, kube: KubeClient, directory: str, options: Any) -> Certificate:
    from wif.serve.certificates import Certificate  # noqa: PLC0415  # only for this command

    secret = _named(options, "self_managed")
    if secret is None:
        from wif.serve.certificate_watch import WatchedCertificate  # noqa: PLC0415  # only with files

        certificate = Certificate(options["tls_cert"], options["tls_key"])
        service.certificate = WatchedCertificate(certificate)
        return certificate
    from wif.serve.ca_bundle import Registrations  # noqa: PLC0415  # only with a Secret
    from wif.serve.certificate_secret import Timing  # noqa: PLC0415  # only with a Secret
    from wif.serve.self_managed import SelfManagedCertificate  # noqa: PLC0415  # only with a Secret

    managed = SelfManagedCertificate(
        kube,
        secret=secret,
        registrations=Registrations(kube, mutating=options["mutating"], validating=options["validating"]),
        names=options["tls_names"],
        directory=directory,
        timing=Timing.of_life(options["certificate_life"]),
    )
    service.certificate = managed
    return managed.prepare()


def _server(service: WebhookService, certificate: Certificate, options: Any) -> HttpServer:
    from wif.serve.httpd import Address, HttpServer, Limits, logged  # noqa: PLC0415  # only for this command
    from wif.serve.webhook import MAX_BODY_BYTES  # noqa: PLC0415  # loaded by now

    return HttpServer(
        logged(service.app) if options["access_log"] else service.app,
        address=Address(host=options["host"], port=options["port"]),
        certificate=certificate,
        limits=Limits(connections=options["max_connections"], body_bytes=MAX_BODY_BYTES, answer_seconds=10.0),
        accept_seconds=options["drain_delay"],
        name="webhook",
        listener=None if options["fd"] is None else _inherited(options["fd"]),
    )


def _inherited(number: int) -> socket.socket:
    try:
        listener = socket.socket(fileno=number)
        if not listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            listener.detach()
            raise OSError("it does not listen")
    except OSError as error:
        raise ConfigurationError(
            f"--fd {number} is no listening socket of this process: {error.strerror or error}",
            code="config-invalid",
            hint="have the parent listen and hand its socket down, not closed on exec",
        ) from error
    listener.setblocking(False)
    return listener


def _health(
    service: WebhookService, server: HttpServer, options: Any
) -> tuple[HealthApp, HttpServer] | tuple[None, None]:
    if options["health_port"] is None:
        return None, None
    from wif.serve.health import HealthApp, new_registry  # noqa: PLC0415  # only with --health-port
    from wif.serve.httpd import Address  # noqa: PLC0415  # loaded by now

    registry = new_registry()
    service.register_metrics(registry, server)
    health = HealthApp(registry=registry, unready=service.unready)
    address = Address(host=options["health_host"], port=options["health_port"])
    return health, health.server(address)
