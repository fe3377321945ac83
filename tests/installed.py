"""Run in an environment that holds nothing but the installed wheel: every module imports, the command starts."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import wif


def main() -> int:
    names = sorted(
        info.name for info in pkgutil.walk_packages(wif.__path__, "wif.") if not info.name.endswith("__main__")
    )
    for name in names:
        importlib.import_module(name)
    command = Path(sys.executable).parent / "wif"
    answer = subprocess.run([command, "--version"], capture_output=True, text=True, check=True, timeout=30)
    if version("wif") not in answer.stdout:
        print(f"wif --version says {answer.stdout!r}, the metadata {version('wif')!r}", file=sys.stderr)
        return 1
    print(f"{len(names)} modules import; {answer.stdout.strip()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
