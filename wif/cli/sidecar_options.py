"""Options of ``wif sidecar`` and ``wif run``. Each is named as its setting and its variable are.

``--gce-metadata`` is ``WIF_SIDECAR_GCE_METADATA`` and ``gce_metadata`` below ``sidecar`` of ``wif.yaml``. Flags win
over variables, variables over the file. Where none of them names an identity, the webhooks' own variables do.
"""

from __future__ import annotations

__all__ = ["SidecarSource", "SidecarValues", "sidecar_options", "sidecar_options_of", "sidecar_source"]

import functools
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from wif.cli.frame import named_config_file
from wif.cli.options import DEFAULT_CONFIG_FILE, read_config_file
from wif.cli.section_options import JSON, LIST, MODE, PAIRS, SECONDS, SWITCH, Option, SectionOptions
from wif.config import ISSUERS, SIDECAR, WEBHOOK, from_document
from wif.errors import ConfigurationError

if TYPE_CHECKING:
    from wif.config.sidecar import SidecarSettings

F = TypeVar("F", bound=Callable[..., Any])

SidecarValues = dict[str, Any]
"""The section's members, as flags, variables and the file together give them; not checked yet."""

_MAX_FILE_BYTES = 1024 * 1024
_SECTIONS = ("aws", "gcp", "azure", ISSUERS, WEBHOOK, SIDECAR)
_TOKEN_VARIABLE = "WIF_TOKEN_FILE"
_HOSTS = "names hosts for the token"
_WRITES = "writes credentials to a path"
_RUNS = "runs a program or sends a signal"

_ROWS = (
    Option("identities", "Name and settings of each. Default: those of the webhooks' variables.", JSON),
    Option("default", "Identity used by requests that name none; repeatable.", PAIRS, "CLOUD=NAME"),
    Option("token_file", "Subject token of identities that name none.", metavar="PATH"),
    Option("allow_hosts", "Host that may get the token; repeatable.", LIST, "HOST", flag="allow-host"),
    Option("propagation_seconds", "How long to retry the refusals of a trust made just now.", SECONDS),
    Option("listen", "Loopback address of the credentials; repeatable. Default: 127.0.0.1:8787.", LIST, "ADDRESS"),
    Option("health_address", "/healthz, /readyz and /metrics. Default: :8788, on every address.", metavar="ADDRESS"),
    Option("aws_container", "AWS' container credentials. Default: where there is a role.", SWITCH),
    Option("app_service", "Azure App Service's endpoint. Default: where there is an Azure identity.", SWITCH),
    Option("gce_metadata", "Google's metadata server: open to every process of the pod. Default: no.", SWITCH),
    Option("imds", "Azure's instance metadata: open to every process of the pod. Default: no.", SWITCH),
    Option(
        "secret_file",
        "Where AWS' secret is written. Default: /var/run/wif-sidecar/authorization.",
        metavar="PATH",
    ),
    Option("secret_mode", "0440, or 0444 without an fsGroup. Default: 0440.", MODE, "MODE"),
    Option("files", "List of the files that credentials are written to.", JSON),
    Option("force_host_network", "Serve although the loopback address is the whole node's. Default: no.", SWITCH),
)
"""One row for each setting, in the order of the help."""


_OPTIONS = SectionOptions(SIDECAR, _ROWS)


def sidecar_options(function: F) -> F:
    """An option for every setting; read by :func:`sidecar_source`. The command takes them as ``sidecar__NAME``."""
    return _OPTIONS.add(function)


def sidecar_options_of(*settings: str, helps: Mapping[str, str]) -> Callable[[F], F]:
    """As :func:`sidecar_options`, for some settings only.

    Args:
        helps: by setting, where it means something else to the command.
    """

    def decorate(function: F) -> F:
        return _OPTIONS.add(function, only=settings, helps=helps)

    return decorate


class SidecarSource:
    """Where the settings of one run come from. :meth:`load` reads them, also again and in another thread.

    Args:
        given: what flags and ``WIF_SIDECAR_*`` variables say.
        unread: by setting, what flags and variables say that cannot be read.
        config_file: the file that the caller named.
        environ: the variables of the webhooks.
        adjust: changes what flags, variables and file give together, before identities are looked for elsewhere.
    """

    def __init__(
        self,
        given: Mapping[str, Any],
        config_file: str | None,
        environ: Mapping[str, str],
        *,
        unread: Mapping[str, str] = {},
        adjust: Callable[[SidecarValues], SidecarValues] = dict,
    ) -> None:
        self._adjust = adjust
        self._given = given
        self._unread = unread
        self._was_there = False
        self._config_file = config_file
        self._environ = environ

    @property
    def watched(self) -> tuple[Path, ...]:
        """Files whose change may change the settings, whether they are there or not."""
        google = self._environ.get("GOOGLE_APPLICATION_CREDENTIALS")
        return (Path(self._config_file or DEFAULT_CONFIG_FILE), *([Path(google)] if google else []))

    def load(self) -> SidecarSettings:
        """The settings of now.

        Raises:
            ConfigurationError: config-invalid with everything that is wrong, config-missing, host-not-allowed,
                file-unusable.
        """
        from wif.config.sidecar import load_sidecar  # noqa: PLC0415  # only when a command runs
        from wif.serve.sidecar_identities import identity_problems  # noqa: PLC0415  # only when a command runs

        try:
            section, top, wrong, path = self._file()
        except ConfigurationError as error:
            if not self._unread:
                raise
            # the rest of the settings is not known, but what flags and variables have wrong is
            flags = [ConfigurationError(each, code="config-invalid") for each in self._unread.values()]
            raise ConfigurationError.of_all([*flags, error]) from error
        unread = {**self._unread, **wrong}
        values = self._adjust({**section, **self._given})
        if self._environ.get(_TOKEN_VARIABLE):  # the same setting, and a variable wins over the file
            top.pop("token_file", None)
        values = {**top, **values}
        if "identities" not in values and "identities" not in unread:
            try:
                values["identities"] = self._of_variables()
            except ConfigurationError as error:
                if not unread:
                    raise
                unread["identities"] = error.message
        origin = "the settings of the sidecar" if self._given or not section else f"{path} has {SIDECAR}"
        check = functools.partial(identity_problems, environ=self._environ)
        return load_sidecar(values, origin=origin, check=check, unread=unread)

    def _file(self) -> tuple[Mapping[str, Any], dict[str, Any], dict[str, str], str]:
        """The section; what stands above it and what is wrong with that; the path."""
        document, path, is_named = self._document()
        section = _OPTIONS.members(document, path)
        top, wrong = _top(document, path)
        if not is_named:
            _require_harmless(top, section, path)
        return section, top, wrong, path

    def _document(self) -> tuple[object, str, bool]:
        if self._was_there and not self.watched[0].exists():
            raise ConfigurationError(
                f"{self.watched[0]} is gone",
                code="file-unusable",
                hint="put it back; a start without it takes what flags and variables say",
            )
        found = read_config_file(self._config_file, limit_bytes=_MAX_FILE_BYTES)
        self._was_there = self._was_there or self.watched[0].exists()
        return found

    def _of_variables(self) -> Mapping[str, Any]:
        from wif.cli.sidecar_variables import identities_of  # noqa: PLC0415  # only where nobody names any

        found = identities_of(self._environ)
        if not found:
            raise ConfigurationError(
                "no identity is named",
                code="config-missing",
                hint="write sidecar: and identities: into wif.yaml, or pass --identities, or set a webhook's variables",
            )
        return found


def sidecar_source(context: click.Context, *, adjust: Callable[[SidecarValues], SidecarValues] = dict) -> SidecarSource:
    """The source of this run: flags, then ``WIF_SIDECAR_*`` variables, then the section ``sidecar`` of the file."""
    _OPTIONS.report_unknown(os.environ)
    given, unread = _OPTIONS.read(context)
    return SidecarSource(given, named_config_file(context), os.environ, unread=unread, adjust=adjust)


def _top(document: object, path: str) -> tuple[dict[str, Any], dict[str, str]]:
    """What stands above the sections and is a setting of the sidecar too; and what is wrong with it, by name."""
    found: dict[str, Any] = {}
    wrong: dict[str, str] = {}
    for name, value in document.items() if isinstance(document, dict) else ():
        if name in _SECTIONS:
            continue
        try:
            found |= from_document({name: value}, origin=path, is_named=True)
        except ConfigurationError as error:
            wrong[f"top-level {name}"] = error.message
    file = found.get("token_file")
    if file is not None and file != "-":  # as in other commands it may be relative
        found["token_file"] = str(Path(file).absolute())
    return found, wrong


def _require_harmless(top: Mapping[str, Any], section: Mapping[str, Any], path: str) -> None:
    """A file that merely lay there may lead no token to a host, write no file, and run no program."""
    found = [("allow_hosts", _HOSTS)] if "allow_hosts" in top else []
    found += [(f"{SIDECAR}.{what}", why) for what, why in _harms(section)]
    if found:
        listed = ", ".join(f"{what} ({why})" for what, why in found)
        raise ConfigurationError(
            f"{path} was found in the current directory and sets {listed}",
            code="host-not-allowed" if any(why == _HOSTS for _, why in found) else "config-invalid",
            hint=f"if the file is yours, name it: --config-file {path}",
        )


def _harms(section: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if "allow_hosts" in section:
        yield "allow_hosts", _HOSTS
    identities, files = section.get("identities"), section.get("files")
    for name, identity in identities.items() if isinstance(identities, dict) else ():
        members = identity if isinstance(identity, dict) else {}
        yield from (
            (f"identities.{name}.{each}", _HOSTS) for each in ("authority_host", "universe_domain") if each in members
        )
    yield from ((name, _WRITES) for name in ("files", "secret_file") if name in section)
    for position, file in enumerate(files if isinstance(files, list) else ()):
        if isinstance(file, dict) and "after" in file:
            yield f"files[{position}].after", _RUNS
