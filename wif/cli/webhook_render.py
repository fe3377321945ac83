"""``wif webhook render``: the registration and the guards as YAML, or the injection itself as policies."""

from __future__ import annotations

__all__ = ["render_command"]

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from wif.cli.durations import Duration
from wif.cli.frame import command, wants_json
from wif.cli.output import print_json
from wif.cli.webhook_options import webhook_options, webhook_settings

if TYPE_CHECKING:
    from wif.admission.registration import RegistrationSettings

F = TypeVar("F", bound=Callable[..., Any])

_MAX_FILE_BYTES = 1024 * 1024

_OPTIONS = (
    click.option("--release", default="wif", show_default=True, help="In every name."),
    click.option("--namespace", default="wif-system", show_default=True, help="The webhook's own."),
    click.option("--service", metavar="NAME", help="Of the webhook. Default: RELEASE-webhook."),
    click.option("--port", type=click.IntRange(1, 65535), default=443, show_default=True, help="Of the service."),
    click.option("--url", metavar="URL", help="https://HOST[:PORT] in place of the service."),
    click.option(
        "--ca-file",
        metavar="FILE",
        type=click.Path(path_type=Path),
        help="PEM that the API server trusts. Default: none, cert-manager or the webhook itself writes it.",
    ),
    click.option("--cert-manager", metavar="NAMESPACE/NAME", help="Certificate whose authority cert-manager writes."),
    click.option(
        "--failure-policy",
        type=click.Choice(("Ignore", "Fail")),
        default="Ignore",
        show_default=True,
        help="What becomes of a pod while the webhook does not answer.",
    ),
    click.option(
        "--timeout", "timeout_seconds", type=Duration(), default=5, show_default=True, help="Of a call, up to 30 s."
    ),
    click.option(
        "--reinvocation-policy",
        type=click.Choice(("IfNeeded", "Never")),
        default="IfNeeded",
        show_default=True,
        help="Whether it is called again after another webhook changed the pod.",
    ),
    click.option(
        "--match-policy",
        type=click.Choice(("Equivalent", "Exact")),
        default="Equivalent",
        show_default=True,
        help="Whether other versions of the same resources count.",
    ),
    click.option(
        "--exclude-namespace",
        "excluded_namespaces",
        metavar="NAME",
        multiple=True,
        help="Left out; repeatable, in place of kube-system and the webhook's own.",
    ),
    click.option(
        "--watch-namespace", "watch_namespaces", metavar="NAME", multiple=True, help="These alone; repeatable."
    ),
    click.option("--namespace-selector", metavar="JSON", help="LabelSelector that namespaces have to match as well."),
    click.option("--object-selector", metavar="JSON", help="LabelSelector that pods have to match as well."),
    click.option("--label", "labels", metavar="NAME=VALUE", multiple=True, help="Of every object; repeatable."),
    click.option(
        "--validation/--no-validation",
        "with_validation",
        default=True,
        show_default=True,
        help="Have ServiceAccounts' annotations checked when they are written.",
    ),
    click.option("--enforce/--no-enforce", default=False, show_default=True, help="Guards deny, in place of warn."),
)


def _registration_options(function: F) -> F:
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


@command("render", example="wif webhook render --enforce")
@click.option(
    "--mutating-admission-policy",
    is_flag=True,
    help="The injection itself as policies, from Kubernetes 1.36 on, in place of a registration: nothing to run.",
)
@_registration_options
@webhook_options
@click.pass_context
def render_command(context: click.Context, /, mutating_admission_policy: bool, **options: Any) -> None:
    """Print the registration of the webhook and the policies that guard it, as YAML for kubectl apply.

    No answer of the webhook admits a pod as it is (Ignore), so that no cluster waits for it to start; a policy finds
    such pods then, and warns or, with --enforce, refuses them.
    """
    from wif.admission.guards import guards  # noqa: PLC0415  # only when a command runs
    from wif.admission.mutating_policy import mutating_policy  # noqa: PLC0415  # only when a command runs
    from wif.admission.registration import registration  # noqa: PLC0415  # only when a command runs

    settings = webhook_settings(context)
    where = _registration_settings(options)
    make = mutating_policy if mutating_admission_policy else registration
    objects = [*make(settings, where), *guards(settings, where)]
    if wants_json(context):
        print_json({"apiVersion": "v1", "kind": "List", "items": objects})
    else:
        click.echo(_yaml(objects), nl=False)


def _registration_settings(options: Mapping[str, Any]) -> RegistrationSettings:
    from wif.admission.registration import RegistrationSettings  # noqa: PLC0415  # loaded by now

    given = {name: value for name, value in options.items() if not name.startswith("webhook__")}
    path = given.pop("ca_file")
    given["ca_bundle"] = "" if path is None else _certificates(path)
    given["excluded_namespaces"] = given["excluded_namespaces"] or None
    for name in ("namespace_selector", "object_selector"):
        given[name] = _selector(name, given[name])
    given["labels"] = dict(_label(label) for label in given["labels"])
    return RegistrationSettings(**given)


def _certificates(path: Path) -> str:
    from wif.edges.files import read_bounded  # noqa: PLC0415  # only where there is a file to read
    from wif.errors import ConfigurationError  # noqa: PLC0415  # for what goes wrong

    try:
        text = read_bounded(path, _MAX_FILE_BYTES).decode("ascii", "replace")
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}", code="file-unusable") from error
    if "-----BEGIN CERTIFICATE-----" not in text or "PRIVATE KEY" in text or len(text) > _MAX_FILE_BYTES:
        raise ConfigurationError(
            f"{path} is no bundle of certificates alone",
            code="config-invalid",
            hint="name a PEM file of certificates, without a key: what is rendered can be read by many",
        )
    return text


def _selector(name: str, text: str | None) -> dict[str, Any]:
    if text is None:
        return {}
    flag = f"--{name.replace('_', '-')}"
    try:
        read = json.loads(text)
    except (ValueError, RecursionError):
        read = None
    if not isinstance(read, dict) or not set(read) <= {"matchLabels", "matchExpressions"}:
        raise click.UsageError(f'{flag} is no LabelSelector in JSON, e.g. {{"matchLabels": {{"team": "a"}}}}')
    return read


def _label(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not sign or not name:
        raise click.UsageError(f"--label {text!r} is not NAME=VALUE")
    return name, value


def _yaml(objects: Sequence[Mapping[str, Any]]) -> str:
    import yaml  # noqa: PLC0415  # only for this command

    class Plain(yaml.SafeDumper):
        """Writes what is equal twice in full: kubectl reads references, people do not like to."""

        def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002  # yaml's
            return True

    return yaml.dump_all(objects, Dumper=Plain, sort_keys=False, explicit_start=True, width=120)
