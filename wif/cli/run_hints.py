"""What to do next, where an error of ``wif run`` has a hint that was written for a pod."""

from __future__ import annotations

__all__ = ["hinted"]

from collections.abc import Iterator
from contextlib import contextmanager

from wif.errors import WifError

_NO_TOKEN = "--file PATH or --token-command COMMAND"
_NO_IDENTITY = (
    "--aws-role-arn, --gcp-provider or --azure-tenant-id with --azure-client-id; or write sidecar: and identities:"
    " into wif.yaml, or set a webhook's variables"
)
_BY_FILE = {
    "token-missing": "check the path, or have a command print the token: --token-command COMMAND",
    "token-unreadable": "check the mode of the file: this user must be able to read it",
    "token-empty": "look at what writes the file",
    "token-expired": "look at what renews the file, and at this machine's clock",
}
_PRINTS = "the command must print one ServiceAccount token, a JWT, and nothing else on stdout; run it by hand"
_BY_COMMAND = {
    "token-source-failed": "run it by hand; what it printed on stderr stands above",
    "token-expired": "look at what the command prints, and at this machine's clock",
    **dict.fromkeys(("token-empty", "token-malformed", "token-too-large", "token-claim"), _PRINTS),
}


@contextmanager
def hinted(token_command: str | None) -> Iterator[None]:
    """Give errors that pass the next step of this command.

    Args:
        token_command: where one prints the token.
    """
    try:
        yield
    except WifError as error:
        hint = _hint(error, token_command)
        if hint is not None:
            error.hint = hint
        raise


def _hint(error: WifError, token_command: str | None) -> str | None:
    if error.message == "no identity is named":
        return _NO_IDENTITY
    if "no subject token: neither" in error.message:
        return _NO_TOKEN if len(getattr(error, "several", ())) < 2 else f"for the token {_NO_TOKEN}; {error.hint}"
    return (_BY_FILE if token_command is None else _BY_COMMAND).get(error.code)
