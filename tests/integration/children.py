"""Programs as a pod would run them: a process of its own, with the pod's environment and nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from typing import Any


def run(environment: Mapping[str, str], program: str, **changes: str | None) -> dict[str, Any]:
    """Run a program that prints one JSON object as its last line.

    Args:
        environment: all of its variables.
        program: Python source.
        changes: variables to set, or with None to leave out.
    """
    variables = {name: value for name, value in {**environment, **changes}.items() if value is not None}
    done = subprocess.run(
        [sys.executable, "-c", program], env=variables, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer
