"""What a native object needs before it can be made: its SDK, and an exchanger of its cloud."""

from __future__ import annotations

__all__ = ["extra_missing", "present"]

from typing import TypeVar

from wif.errors import ConfigurationError

E = TypeVar("E")


def extra_missing(package: str, extra: str) -> ConfigurationError:
    """The error of a module whose SDK is not installed.

    Args:
        package: what could not be imported.
        extra: the extra of this package that brings it.
    """
    return ConfigurationError(
        f"{package} is not installed, and the native objects of this SDK need it",
        code="extra-missing",
        hint=f"pip install 'wif[{extra}]'",
    )


def present(exchanger: E | None, *, cloud: str, variables: str) -> E:
    """The exchanger that the environment describes, or an error that names the variables it would take.

    Args:
        exchanger: what ``wif.from_env()`` found; None where no variable of this cloud is set.
        cloud: for the message.
        variables: the variables of this cloud's webhook.

    Raises:
        ConfigurationError: config-missing.
    """
    if exchanger is None:
        raise ConfigurationError(
            f"the environment describes no {cloud} identity: expected {variables}, came none of them",
            code="config-missing",
            cloud=cloud,
            hint=f"set them (the webhook does), or hand in an exchanger of wif.{cloud}()",
        )
    return exchanger
