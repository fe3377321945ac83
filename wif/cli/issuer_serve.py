"""``wif issuer serve``: the documents of one or many issuers over HTTPS, from memory."""

from __future__ import annotations

__all__ = ["serve_command"]

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wif.cli.durations import Duration
from wif.cli.frame import command, wants_json
from wif.cli.issuer_options import choose_issuers, issuer_options
from wif.cli.output import print_json, warn
from wif.cli.service_log import log_options, set_up_log
from wif.errors import ConfigurationError

if TYPE_CHECKING:
    from wif.edges.stores import Store
    from wif.serve.discovery import DiscoveryApp
    from wif.serve.health import HealthApp
    from wif.serve.httpd import HttpServer
    from wif.serve.refresh import Job, Refresher

GRACE_SECONDS = 25
"""Less than the 30 s that Kubernetes gives a pod to end."""

_CHOOSING = ("names", "all", "issuer", "kubeconfig", "context", "api_servers", "public_keys", "jwks")
"""Options that name issuers beside those of ``--from``."""


@command("serve", example="wif issuer serve --from /srv/issuer --tls-cert tls.crt --tls-key tls.key", log_level="info")
@issuer_options(several=True, publishing=False)
@click.option(
    "--from",
    "places",
    metavar="[ISSUER=]PLACE",
    multiple=True,
    help="Directory, or URL as of --to, that a publisher writes; repeatable.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; :: is every one.")
@click.option("--port", type=click.IntRange(0, 65535), default=8443, show_default=True, help="0 takes a free one.")
@click.option("--tls-cert", metavar="FILE", type=click.Path(path_type=Path), help="PEM chain; read anew on change.")
@click.option("--tls-key", metavar="FILE", type=click.Path(path_type=Path), help="Its key. Default: in --tls-cert.")
@click.option("--plain-http", is_flag=True, help="No TLS: something in front of it has the certificate.")
@click.option("--check-host", is_flag=True, help="Refuse foreign Host headers also where all issuers share one host.")
@click.option("--health-port", type=click.IntRange(0, 65535), help="/healthz, /readyz and /metrics. Default: none.")
@click.option("--health-host", default="::", show_default=True, help="Its address: kubelet asks from outside the pod.")
@click.option("--max-age", type=Duration(), default=300, show_default=True, help="Cache-Control of a new document.")
@click.option("--refresh", type=Duration(), default=30, show_default=True, help="Time between readings of a source.")
@click.option("--stale", type=Duration(), default=3600, show_default=True, help="Age at which a document ends: 503.")
@click.option("--max-connections", type=click.IntRange(1, 100_000), default=2000, show_default=True, help="At most.")
@click.option("--grace", type=Duration(), default=GRACE_SECONDS, show_default=True, help="Longest stop after SIGTERM.")
@click.option("--drain-delay", type=Duration(), default=0, show_default=True, help="Accept so long after SIGTERM.")
@click.option("--access-log", is_flag=True, help="A line for each request.")
@log_options
@click.pass_context
def serve_command(context: click.Context, /, log_format: str, grace: int, **options: Any) -> None:
    """Serve discovery documents and key sets over HTTPS until SIGINT or SIGTERM.

    Documents are made anew from checked keys and kept in memory; sources are read in the background. A document that
    cannot be confirmed any more is served for the stale window, with a max-age that shrinks, and then not at all.
    Several issuers are told apart by host or by path.
    """
    from wif.serve.httpd import run  # noqa: PLC0415  # only for this command
    from wif.serve.refresh import Refresher  # noqa: PLC0415  # only for this command

    set_up_log(log_format)
    if options["plain_http"] == (options["tls_cert"] is not None):
        raise ConfigurationError(
            "a certificate or plain HTTP? Exactly one of --tls-cert and --plain-http is needed",
            code="config-missing",
            hint="pass --tls-cert and --tls-key; clouds read an issuer over https only",
        )
    jobs = _jobs(context, options)
    app = _app(jobs, check_host=options["check_host"])
    refresher = Refresher(jobs, every_seconds=max(1, options["refresh"]))
    server = _server(app, options)
    health, health_server = _health(app, refresher, server, options)

    def ready() -> None:
        place = {
            "url": server.url,
            "issuers": [issuer.issuer for issuer in app.issuers],
            "health_url": health_server.url if health_server is not None else None,
        }
        if wants_json(context):
            print_json(place)
        else:
            click.echo(f"serving {len(app.issuers)} issuer(s) at {server.url}")
            if health_server is not None:
                click.echo(f"health at {health_server.url}")

    def stop() -> None:
        if health is not None:
            health.leaving = True

    run([server], health=health_server, workers=[refresher.run], grace_seconds=grace, on_ready=ready, on_stop=stop)


def _app(jobs: Sequence[Job], *, check_host: bool) -> DiscoveryApp:
    from wif.serve.discovery import DiscoveryApp  # noqa: PLC0415  # loaded by now

    return DiscoveryApp([job.issuer for job in jobs], check_host=check_host)


def _jobs(context: click.Context, options: Any) -> list[Job]:
    """The places of ``--from``, and the issuers of flags and wif.yaml; these also where nothing else is named."""
    from wif.serve.discovery import Freshness, ServedIssuer  # noqa: PLC0415  # only for this command
    from wif.serve.refresh import Job  # noqa: PLC0415  # only for this command

    freshness = Freshness(max_age_seconds=options["max_age"], stale_seconds=options["stale"])
    if options["stale"] <= options["refresh"]:
        warn("--stale is not longer than --refresh: documents end before they are read again")
    jobs: list[Job] = []
    for text in options["places"]:
        from wif.serve.document_sources import StoreSource, described  # noqa: PLC0415  # only with --from

        issuer, place = _place(text)
        store = _store(place)
        found = described(store, issuer=issuer)
        served = ServedIssuer(found.issuer, jwks_uri=found.jwks_uri, freshness=freshness)
        jobs.append(Job(served, StoreSource(store, issuer=found.issuer, jwks_uri=found.jwks_uri)))
    if options["places"] and not any(context.params.get(f"issuer__{name}") for name in _CHOOSING):
        return jobs
    for chosen in choose_issuers(context):
        from wif.issuer.session import Session  # noqa: PLC0415  # only with sources
        from wif.serve.document_sources import SettingsSource  # noqa: PLC0415  # only with sources

        session = Session(chosen.settings, name=chosen.name)
        served = ServedIssuer(session.issuer, jwks_uri=session.jwks_uri, freshness=freshness)
        clouds = {cloud for target in chosen.settings.to for cloud in target.clouds} or ("aws", "gcp", "azure")
        jobs.append(Job(served, SettingsSource(session), clouds=tuple(clouds)))
    return jobs


def _place(text: str) -> tuple[str | None, str]:
    """``ISSUER=PLACE`` or ``PLACE``; an issuer is an https URL, and a place may hold an equals sign too."""
    if text.startswith("https://") and "=" in text:
        issuer, _, place = text.partition("=")
        return issuer, place
    return None, text


def _store(place: str) -> Store:
    """A directory by its path, or what ``--to`` could name."""
    from wif.config.issuers import TargetSettings  # noqa: PLC0415  # only with --from
    from wif.edges.stores.opening import open_store  # noqa: PLC0415  # only with --from

    url = place if ":" in place else Path(place).absolute().as_uri()
    kube = None
    if url.startswith("configmap:"):
        from wif.edges.kube import KubeClient  # noqa: PLC0415  # only for this kind of place

        kube = KubeClient.find()
    return open_store(TargetSettings(url=url), kube=kube)


def _server(app: DiscoveryApp, options: Any) -> HttpServer:
    from wif.serve.certificates import Certificate  # noqa: PLC0415  # only for this command
    from wif.serve.httpd import Address, HttpServer, Limits, logged  # noqa: PLC0415  # only for this command

    chain = options["tls_cert"]
    return HttpServer(
        logged(app) if options["access_log"] else app,
        address=Address(host=options["host"], port=options["port"]),
        certificate=None if chain is None else Certificate(chain, options["tls_key"]),
        limits=Limits(connections=options["max_connections"]),
        accept_seconds=options["drain_delay"],
        name="documents",
    )


def _health(
    app: DiscoveryApp, refresher: Refresher, server: HttpServer, options: Any
) -> tuple[HealthApp, HttpServer] | tuple[None, None]:
    if options["health_port"] is None:
        return None, None
    from wif.serve.health import HealthApp, new_registry  # noqa: PLC0415  # only with --health-port
    from wif.serve.httpd import Address  # noqa: PLC0415  # loaded by now
    from wif.serve.metrics import ServeMetrics  # noqa: PLC0415  # only with --health-port

    registry = new_registry()
    registry.register(ServeMetrics(app, refresher, server))
    health = HealthApp(registry=registry, unready=refresher.unready)
    address = Address(host=options["health_host"], port=options["health_port"])
    return health, health.server(address)
