"""The states of an identity that holds no credential."""

from __future__ import annotations

import pytest

from wif.clouds.endpoint_answers import state_of
from wif.errors import ConfigurationError, RefusedError, TokenError, UnavailableError, WifError


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (RefusedError("no", code="trust-denied"), "refused"),
        (UnavailableError("later", code="cloud-unavailable", retryable=True), "outage"),
        (ConfigurationError("replaced by another exchanger", code="closed"), "outage"),
        (TokenError("the kubelet has not written it", code="token-missing"), "outage"),
        (TokenError("the kubelet writes another", code="token-expired"), "outage"),
        (TokenError("this is no token", code="token-malformed"), "refused"),
    ],
)
def test_what_may_pass_is_an_outage_and_what_will_not_a_refusal(error: WifError, state: str) -> None:
    assert state_of(error) == state
