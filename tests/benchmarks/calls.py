"""Within one process: a cached call, cold threads, and the requests of a first credential. Prints rows."""

from __future__ import annotations

import statistics
import threading
import timeit
from collections.abc import Iterator

import wif
from tests.benchmarks.rows import Row
from wif.emulator.pod import POD_IDENTITY


def measure() -> Iterator[Row]:
    """Rows of calls; the environment leads to the local STS."""
    exchanger = wif.from_env().aws
    assert exchanger is not None
    exchanger.credentials()
    rounds = 200_000
    times = timeit.repeat(exchanger.credentials, number=rounds, repeat=7)
    value = statistics.median(times) / rounds * 1e6
    yield Row(
        name="cached credentials() call", value=round(value, 3), unit="µs", target="at most 1 µs", met=value <= 1.0
    )

    cold = wif.from_env().aws
    assert cold is not None
    barrier = threading.Barrier(64)

    def call() -> None:
        barrier.wait()
        cold.credentials()

    threads = [threading.Thread(target=call) for _ in range(64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    yield _count("exchanges of 64 threads on a cold credential", cold.statistics.exchanges, 1)

    env = wif.from_env()
    assert env.aws is not None
    assert env.gcp is not None
    assert env.azure is not None
    env.aws.credentials()
    env.gcp.credentials()
    env.azure.credentials(scope="https://management.azure.com/.default")
    for name, made in (("aws", env.aws), ("gcp", env.gcp), ("azure", env.azure)):
        yield _count(f"HTTP requests to the first credential, {name}", made.statistics.requests, 1)
    url = env.gcp._token_url.removesuffix("/v1/token")
    with wif.gcp(
        env.gcp.provider.audience,
        POD_IDENTITY.google_service_account,
        source=env.gcp.source,
        token_url=f"{url}/v1/token",
        impersonation_url=url,
    ) as impersonated:
        impersonated.credentials()
        yield _count("HTTP requests to the first credential, gcp impersonated", impersonated.statistics.requests, 2)


def _count(name: str, value: int, target: int) -> Row:
    return Row(name=name, value=value, unit="", target=f"{target}", met=value == target)


if __name__ == "__main__":
    for row in measure():
        print(row.as_json())
