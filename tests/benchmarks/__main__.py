"""Run every measurement, print a table, and write the rows as JSON where asked.

This process stays small and loads nothing of the project: a child's peak memory begins with its parent's.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path

from tests.benchmarks import starts
from tests.benchmarks.rows import Row

MODULES = (
    "admission",
    "emulator_throughput",
    "publishing",
    "serve_throughput",
    "accounts",
    "webhook_throughput",
    "sidecar",
)
"""Each a process of its own."""


def main() -> int:
    """Measure; the exit status says whether everything ran, not whether targets were met."""
    parser = argparse.ArgumentParser(prog="nox -s bench --", description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows there")
    file: Path | None = parser.parse_args().json
    rows: list[Row] = []
    stage = subprocess.Popen(
        [sys.executable, "-m", "tests.benchmarks.stage"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert stage.stdout is not None
        variables: dict[str, str] = json.loads(stage.stdout.readline())["variables"]
        for row in starts.measure(variables):
            _show(row, rows)
        for row in _in_process("tests.benchmarks.calls", variables):
            _show(row, rows)
    finally:
        stage.communicate()
    for module in MODULES:
        for row in _in_process(f"tests.benchmarks.{module}", dict(os.environ)):
            _show(row, rows)
    missed = [row.name for row in rows if row.met is False]
    print(
        f"{len(rows)} rows, {sum(row.met is True for row in rows)} targets met"
        + (f"; missed: {'; '.join(missed)}" if missed else "")
    )
    if file is not None:
        file.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")
    return 0


def _in_process(module: str, variables: Mapping[str, str]) -> Iterator[Row]:
    done = subprocess.run(
        [sys.executable, "-m", module],
        env={**variables, "PYTHONPATH": str(Path.cwd())},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    for line in done.stdout.splitlines():
        if line.startswith("{"):
            yield Row(**json.loads(line))


def _show(row: Row, rows: list[Row]) -> None:
    rows.append(row)
    peer = f"{row.peer}: {row.peer_value} {row.unit}" if row.peer is not None else ""
    ratio = f"ratio {row.ratio}" if row.ratio is not None else ""
    mark = {True: "met", False: "MISSED", None: "-"}[row.met]
    value = row.note if row.value is None else f"{row.value:>10} {row.unit:5}"
    note = f" ({row.note})" if row.note and row.value is not None else ""
    print(f"{mark:7}{row.name:58}{value}{peer:42}{ratio:14}{row.target}{note}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
