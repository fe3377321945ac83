"""Run in an environment that holds nothing but the installed wheel: every module imports, the command starts."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import wif

APART = {"wif.sdk.aiobotocore", "wif.emulator.fixtures"}
"""Need aiobotocore or pytest, which are not part of ``all``, and must say so."""


def _import(name: str) -> bool:
    """False where the module asks for an extra."""
    try:
        importlib.import_module(name)
    except wif.ConfigurationError as error:
        if error.code != "extra-missing":
            raise
        return False
    return True


def main() -> int:
    names = {info.name for info in pkgutil.walk_packages(wif.__path__, "wif.") if not info.name.endswith("__main__")}
    refused = {name for name in sorted(names) if not _import(name)}
    if refused != APART:
        print(f"extras asked for by {sorted(refused)}, expected {sorted(APART)}", file=sys.stderr)
        return 1
    command = Path(sys.executable).parent / "wif"
    answer = subprocess.run([command, "--version"], capture_output=True, text=True, check=True, timeout=30)
    if version("wif") not in answer.stdout:
        print(f"wif --version says {answer.stdout!r}, the metadata {version('wif')!r}", file=sys.stderr)
        return 1
    print(f"{len(names) - len(refused)} modules import; {answer.stdout.strip()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
