"""The real API server, one per test process; without the programs for it the tests say what is missing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from wif.emulator.apiserver import ApiServer, missing_assets
from wif.emulator.fixtures import (  # noqa: F401  # as a user's conftest.py may take them one by one
    _wif_signing_key,
    wif_authority,
    wif_cluster,
    wif_emulator,
    wif_faults,
    wif_identity,
    wif_pod,
    wif_trust,
)


@pytest.fixture(scope="session")
def api_server() -> Iterator[ApiServer]:
    """A kube-apiserver with its etcd, found by KUBEBUILDER_ASSETS. Tests share it: use namespaces of your own."""
    problem = missing_assets()
    if problem:
        pytest.skip(f"no real API server: {problem}")
    with ApiServer() as server:
        yield server


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Under xdist's loadgroup one worker gets these tests, so that one server is started and not one each."""
    for item in items:
        fixtures = set(getattr(item, "fixturenames", ()))
        if "api_server" in fixtures:
            item.add_marker(pytest.mark.xdist_group("api_server"))
        elif "cluster" in fixtures:  # API servers of a module's own
            item.add_marker(pytest.mark.xdist_group(item.path.stem))


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """A line of its own at the end, which nobody overlooks."""
    skipped = [
        report
        for report in terminalreporter.stats.get("skipped", [])
        if "no real API server" in str(getattr(report, "longrepr", ""))
    ]
    if skipped:
        terminalreporter.section("NOT TESTED AGAINST KUBERNETES", sep="!", red=True, bold=True)
        terminalreporter.line(
            f"{len(skipped)} test(s) need a real API server, but {missing_assets()}."
            " Run 'setup-envtest use -p path' and set KUBEBUILDER_ASSETS to what it prints."
        )
