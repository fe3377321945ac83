"""What every test shares: the watch over what a test touches, and hypothesis without files or deadlines."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from tests.watch import WATCH, Watch

# No example database: a pure test writes no file. No deadline: CI machines stall.
hypothesis.settings.register_profile("project", database=None, deadline=None)
hypothesis.settings.register_profile("quick", parent=hypothesis.settings.get_profile("project"), max_examples=20)
hypothesis.settings.register_profile("thorough", parent=hypothesis.settings.get_profile("project"), max_examples=2000)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "project"))

sys.addaudithook(WATCH)


@pytest.fixture
def watch() -> Iterator[Watch]:
    """The audit hook itself, for the tests of it."""
    yield WATCH
    WATCH.release()


@pytest.fixture(autouse=True)
def untouched_log() -> None:
    """A command that ran in this process has set up the log for itself; each test finds it as a program does."""
    logger = logging.getLogger("wif")
    logger.handlers[:] = []
    logger.propagate = True
    logger.setLevel(logging.NOTSET)
    logging.disable(logging.NOTSET)


@pytest.hookimpl
def pytest_report_header() -> list[str]:
    """Say loudly what a missing API server leaves out."""
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    if assets and (Path(assets) / "kube-apiserver").exists():
        return [f"real API server: {assets}"]
    return ["real API server: NONE. KUBEBUILDER_ASSETS is not set; the tests against Kubernetes are skipped"]
