"""``wif webhook explain``: what would be injected into a pod, and why not, offline or beside a cluster."""

from __future__ import annotations

__all__ = ["explain_command"]

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

from wif.cli.frame import command, wants_json
from wif.cli.output import print_json, warn
from wif.cli.webhook_options import webhook_options, webhook_settings
from wif.errors import ConfigurationError, RefusedError

if TYPE_CHECKING:
    from wif.admission.accounts import ServiceAccount
    from wif.admission.comparison import Comparison
    from wif.admission.explanation import Explanation
    from wif.admission.platform import Platform
    from wif.admission.workloads import Manifests, Workload
    from wif.cli.webhook_cluster import Cluster, ClusterFacts
    from wif.config.webhook import WebhookSettings

F = TypeVar("F", bound=Callable[..., Any])

_NAME = r"[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?"
_IN_CLUSTER = re.compile(rf"({_NAME})/({_NAME})")

_OPTIONS = (
    click.option(
        "--pod",
        "pod",
        required=True,
        metavar="FILE",
        help="Manifest of a pod or of what makes pods; - reads stdin. With --live also NAMESPACE/NAME of a pod.",
    ),
    click.option(
        "--service-account",
        "service_accounts",
        multiple=True,
        metavar="FILE",
        help="Manifest of ServiceAccounts; repeatable. They may stand in the file of --pod too.",
    ),
    click.option("--platform", metavar="FILE", help="Manifest of the platform's ConfigMap."),
    click.option("--platform-config", metavar="NAMESPACE/NAME", help="With --live: the ConfigMap in the cluster."),
    click.option("--namespace", metavar="NAME", help="Of objects that name none."),
    click.option(
        "--show",
        type=click.Choice(("patch", "pod", "diff")),
        help="Also the JSON patch, the pod afterwards, or the difference.",
    ),
    click.option(
        "--live",
        is_flag=True,
        help="Read the ServiceAccount from the cluster, and what else is called there for the pod.",
    ),
    click.option("--kubeconfig", metavar="PATH", help="With --live. Default: the pod's own cluster, else kubectl's."),
    click.option("--context", "kube_context", metavar="NAME", help="Context of the kubeconfig."),
)


class _Given(NamedTuple):
    """What the options say."""

    pod: str
    service_accounts: tuple[str, ...]
    platform: str | None
    platform_config: str | None
    namespace: str | None
    show: str | None
    live: bool
    kubeconfig: str | None
    kube_context: str | None


class _Found(NamedTuple):
    """All that is to be said of one pod."""

    explanation: Explanation
    comparison: Comparison | None
    cluster: ClusterFacts | None


def _explain_options(function: F) -> F:
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


@command("explain", example="wif webhook explain --pod pod.yaml --service-account sa.yaml")
@_explain_options
@webhook_options
@click.pass_context
def explain_command(context: click.Context, /, **options: Any) -> None:
    """Say what the webhook would inject into a pod, and why not more: variables, files, tokens, identities, refusals.

    Offline, unless --live is given: the pod's ServiceAccount then comes from the cluster, a pod that runs is compared
    with what it would be given now, and every other webhook and admission policy that sees it is listed. Values of the
    pod's own environment are never shown.

    Exit status: 0, 1 a pod would be refused, 2 wrong usage or configuration.
    """
    given = _Given(**{name: options[name] for name in _Given._fields})
    _check(given)
    found = _found(given, webhook_settings(context))
    refused = [each.explanation for each in found if not each.explanation.allowed]
    if wants_json(context):
        _print_json(found, given.show, refused)
        context.exit(1 if refused else 0)
    _print_text(found, given.show)
    if refused:
        raise _refusal(refused)


def _check(given: _Given) -> None:
    if not given.live and (given.kubeconfig or given.kube_context or given.platform_config):
        raise click.UsageError("--kubeconfig, --context and --platform-config go with --live")
    if given.platform and given.platform_config:
        raise click.UsageError("--platform and --platform-config contradict each other")
    if given.platform_config and not _IN_CLUSTER.fullmatch(given.platform_config):
        raise click.UsageError(f"--platform-config {given.platform_config!r} is not NAMESPACE/NAME")
    if [given.pod, *given.service_accounts, given.platform].count("-") > 1:
        raise click.UsageError("stdin (-) can be read once: put everything into one stream and pass it as --pod -")


def _found(given: _Given, settings: WebhookSettings) -> list[_Found]:
    if not given.live:
        return _looked_at(given, settings, None)
    from wif.cli.webhook_cluster import Cluster  # noqa: PLC0415  # only with --live
    from wif.edges.kube import KubeClient  # noqa: PLC0415  # only with --live

    client = KubeClient.find(given.kubeconfig, context=given.kube_context)
    try:
        return _looked_at(given, settings, Cluster(client))
    finally:
        client.close()


def _looked_at(given: _Given, settings: WebhookSettings, cluster: Cluster | None) -> list[_Found]:
    from wif.admission.explanation import explain  # noqa: PLC0415  # after the options are known to be right

    running = _IN_CLUSTER.fullmatch(given.pod) if cluster is not None and not Path(given.pod).exists() else None
    workloads, passed = _manifests(given, has_pod=running is None)
    if cluster is not None and running is not None:
        workloads = (cluster.pod(running[1], running[2]),)
    platform = _platform(given, settings, cluster)
    found = []
    for workload in workloads:
        known = passed
        if cluster is not None:
            cluster.read_account(workload.namespace, workload.account_name)
            known = {**cluster.accounts, **passed}
        comparison = None
        if running is not None and cluster is not None:
            from wif.admission.comparison import compare  # noqa: PLC0415  # only for a pod that runs

            created = cluster.created.get((workload.namespace, workload.account_name), "")
            comparison = compare(workload, known, settings, platform, account_created=created)
        explanation = explain(workload, known, settings, platform)
        found.append(_Found(explanation, comparison, None if cluster is None else cluster.facts(workload)))
    return found


def _manifests(
    given: _Given, *, has_pod: bool
) -> tuple[tuple[Workload, ...], dict[tuple[str, str], ServiceAccount | None]]:
    """The pods, and the ServiceAccounts that were passed."""
    from wif.admission.workloads import common_namespace, read_manifests  # noqa: PLC0415  # only when a command runs
    from wif.cli.manifest_files import read_documents  # noqa: PLC0415  # only when a command runs

    pods = read_documents([given.pod]) if has_pod else []
    others = read_documents(given.service_accounts)
    namespace = given.namespace or common_namespace([*pods, *others])
    manifests = read_manifests(pods, namespace=namespace)
    beside = read_manifests(others, namespace=namespace)
    if has_pod and not manifests.workloads:
        raise _no_pod(given.pod, manifests)
    if others and not beside.accounts:
        warn("no ServiceAccount is in what --service-account names")
    accounts = {(each.namespace, each.name): each for each in (*manifests.accounts, *beside.accounts)}
    return manifests.workloads, dict(accounts)


def _no_pod(path: str, manifests: Manifests) -> ConfigurationError:
    kinds = [*(f"ServiceAccount {each.name}" for each in manifests.accounts), *manifests.passed_over]
    return ConfigurationError(
        f"{'stdin' if path == '-' else path} has no pod, and nothing that makes pods"
        + (f", but: {', '.join(kinds[:5])}" if kinds else ": it is empty"),
        code="config-invalid",
        hint="pass a Pod, Deployment, StatefulSet, DaemonSet, ReplicaSet, Job or CronJob as --pod",
    )


def _platform(given: _Given, settings: WebhookSettings, cluster: Cluster | None) -> Platform | None:
    named = _IN_CLUSTER.fullmatch(given.platform_config or "")
    made, origin = None, f"the ConfigMap {given.platform_config}"
    if named is not None and cluster is not None:
        made = cluster.config_map(named[1], named[2])
    elif given.platform is not None:
        made, origin = _config_map_of(given.platform), given.platform
    if made is None:
        return None
    from wif.admission.platform import read_platform  # noqa: PLC0415  # only where there is one

    return read_platform(_data(made, origin), settings)


def _config_map_of(path: str) -> Mapping[str, Any]:
    from wif.admission.workloads import read_manifests  # noqa: PLC0415  # only where there is one
    from wif.cli.manifest_files import read_documents  # noqa: PLC0415  # only where there is one

    found = read_manifests(read_documents([path])).config_maps
    if len(found) != 1:
        raise ConfigurationError(
            f"{path} has {len(found)} ConfigMaps, expected one",
            code="config-invalid",
            hint="pass the manifest of the ConfigMap that the webhook reads",
        )
    return found[0]


def _data(made: Mapping[str, Any], origin: str) -> Mapping[str, str]:
    data = made.get("data") or {}
    if not isinstance(data, dict) or not all(isinstance(value, str) for value in data.values()):
        raise ConfigurationError(
            f"{origin}: data of the ConfigMap is no mapping of texts",
            code="config-invalid",
            hint="write the content of a key as a block: config.yaml: |",
        )
    return data


# -- printing ----------------------------------------------------------------------------------------------------------


def _refusal(refused: Sequence[Explanation]) -> RefusedError:
    reasons = [finding.message for finding in refused[0].findings if finding.level == "deny"]
    others = f", and so would {len(refused) - 1} more," if len(refused) > 1 else ""
    return RefusedError(f"{refused[0].workload.text} would be refused{others}: {reasons[0]}", code="pod-refused")


def _print_text(found: Sequence[_Found], show: str | None) -> None:
    from wif.cli.webhook_explain_text import show_cluster, show_explanation  # noqa: PLC0415  # only without --json

    for number, each in enumerate(found):
        if number:
            click.echo()
        show_explanation(each.explanation, show=show, comparison=each.comparison)
        if each.cluster is not None:
            show_cluster(each.cluster)


def _print_json(found: Sequence[_Found], show: str | None, refused: Sequence[Explanation]) -> None:
    from wif.cli.webhook_explain_json import (  # noqa: PLC0415  # only with --json
        cluster_object,
        comparison_object,
        explanation_object,
    )

    pods = [
        {
            **explanation_object(each.explanation, show=show),
            "running": None if each.comparison is None else comparison_object(each.comparison),
            "cluster": None if each.cluster is None else cluster_object(each.cluster),
        }
        for each in found
    ]
    print_json({"pods": pods, "refused": len(refused), "exit_status": 1 if refused else 0})
