"""Fault injection: who is hit, how often, and what one answer joins."""

from __future__ import annotations

import threading

import pytest

from wif.emulator.faults import Fault, Faults
from wif.errors import ConfigurationError


def test_nothing_injected_is_nothing_taken() -> None:
    assert Faults().take("aws", "AssumeRole") is None


def test_a_fault_hits_its_cloud_and_operation_only() -> None:
    faults = Faults()
    injection = faults.inject(cloud="gcp", operation="generateAccessToken", status=503, body=b"x")
    assert faults.take("aws", "generateAccessToken") is None
    assert faults.take("gcp", "token") is None
    assert faults.take("gcp", "generateAccessToken") == Fault(status=503, body=b"x")
    assert injection.taken == 1


def test_without_cloud_and_operation_it_hits_all() -> None:
    faults = Faults()
    faults.inject(delay_seconds=0.5)
    assert [faults.take(cloud, "any") for cloud in ("aws", "gcp", "azure")] == [Fault(delay_seconds=0.5)] * 3


@pytest.mark.parametrize("times", [1, 3])
def test_times_counts_requests(times: int) -> None:
    faults = Faults()
    injection = faults.inject(status=500, times=times)
    taken = [faults.take("aws", "AssumeRole") for _ in range(times + 2)]
    assert taken == [Fault(status=500)] * times + [None, None]
    assert injection.remaining == 0


def test_without_times_it_stays_until_removed() -> None:
    faults = Faults()
    injection = faults.inject(cut="body")
    assert all(faults.take("aws", "AssumeRole") for _ in range(5))
    injection.remove()
    injection.remove()
    assert faults.take("aws", "AssumeRole") is None


def test_a_block_ends_its_fault() -> None:
    faults = Faults()
    with faults.inject(clock_offset_seconds=-600):
        fault = faults.take("azure", "token")
        assert fault is not None
        assert fault.clock_offset_seconds == -600
    assert faults.take("azure", "token") is None


def test_clear_ends_all() -> None:
    faults = Faults()
    faults.inject(status=500)
    faults.inject(delay_seconds=1)
    faults.clear()
    assert faults.take("aws", "AssumeRole") is None


def test_different_parts_join_in_one_answer() -> None:
    faults = Faults()
    faults.inject(clock_offset_seconds=120)
    faults.inject(delay_seconds=0.25)
    faults.inject(status=429, headers={"Retry-After": "7"}, times=1)
    assert faults.take("aws", "AssumeRole") == Fault(
        clock_offset_seconds=120, delay_seconds=0.25, status=429, headers={"Retry-After": "7"}
    )
    assert faults.take("aws", "AssumeRole") == Fault(clock_offset_seconds=120, delay_seconds=0.25)


def test_two_answers_come_one_after_the_other_and_never_mix() -> None:
    faults = Faults()
    faults.inject(status=503, body=b"first", times=1)
    faults.inject(status=429, headers={"Retry-After": "1"}, times=1)
    faults.inject(cut="headers", times=1)
    assert [faults.take("aws", "AssumeRole") for _ in range(4)] == [
        Fault(status=503, body=b"first"),
        Fault(status=429, headers={"Retry-After": "1"}),
        Fault(cut="headers"),
        None,
    ]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({}, "sets nothing"),
        ({"status": 500, "times": 0}, "times=0"),
        ({"delay_seconds": -1.0}, "delay_seconds=-1.0"),
        ({"delay_seconds": 1e6}, "delay_seconds"),
        ({"delay_seconds": float("nan")}, "delay_seconds"),
        ({"status": 100}, "status=100"),
        ({"status": 600}, "status=600"),
        ({"body": b"x", "delay_seconds": 1.0}, "body and no status"),
        ({"cut": "middle"}, "cut='middle'"),
    ],
)
def test_a_fault_that_cannot_be_meant_is_refused(arguments: dict[str, object], named: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Faults().inject(**arguments)  # type: ignore[arg-type] # wrong on purpose
    assert caught.value.code == "config-invalid"
    assert named in caught.value.message


def test_threads_share_the_count() -> None:
    faults = Faults()
    injection = faults.inject(status=500, times=400)
    hits = []
    gate = threading.Barrier(8)

    def worker() -> None:
        gate.wait(10)
        hits.append(sum(faults.take("aws", "AssumeRole") is not None for _ in range(100)))

    threads = [threading.Thread(target=worker) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert sum(hits) == 400
    assert injection.taken == 400


def test_a_body_is_not_shown() -> None:
    assert "secret-body" not in repr(Faults().inject(status=500, body=b"secret-body"))
