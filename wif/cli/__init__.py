"""The command line, ``wif``. What can be said without the framework is said before it is imported."""

from __future__ import annotations

__all__ = ["main", "publish_oidc_discovery"]

import gc
import sys

_COLLECT_AFTER_OBJECTS = 100_000
"""Python's own 700 runs the collector a hundred times while modules are imported."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit status.

    0 done, 1 refused or failed, 2 wrong usage or configuration, 3 drift or tampering found.

    ``wif --version`` and a warm answer of ``wif exchange aws --format credential-process --cache`` come before
    anything else is imported: the aws command line starts this program anew for each of its own calls.
    """
    return _main(sys.argv[1:] if arguments is None else list(arguments), owns_process=arguments is None)


def publish_oidc_discovery() -> int:
    """The program ``publish-oidc-discovery``: ``wif issuer publish`` by its own name; the exit status."""
    given = sys.argv[1:]
    return _main(given if given == ["--version"] else ["issuer", "publish", *given], owns_process=True)


def _main(given: list[str], *, owns_process: bool) -> int:
    if given == ["--version"]:
        from wif import __version__  # noqa: PLC0415  # nothing is imported before it is needed

        sys.stdout.write(f"wif {__version__}\n")
        return 0
    if given[:2] == ["exchange", "aws"] and "--cache" in given:
        from wif.cli.warm import warm_answer  # noqa: PLC0415  # nothing is imported before it is needed

        answer = warm_answer(given[2:])
        if answer is not None:
            sys.stdout.write(answer + "\n")
            return 0
    if owns_process:
        # What imports make stays to the end: collecting it is 7 % of the time to a credential.
        gc.set_threshold(_COLLECT_AFTER_OBJECTS)
    from wif.cli.root import run  # noqa: PLC0415  # click takes a third of the time to a credential

    status = run(given, owns_process=owns_process)
    if owns_process:
        gc.freeze()  # nor is it collected once more at the end
    return status
