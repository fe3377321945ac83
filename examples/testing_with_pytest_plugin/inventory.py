"""A program of yours, as small as can be: it works in AWS and Azure by the pod's identity."""

from __future__ import annotations

import wif
import wif.sdk.aws


def account_id() -> str:
    """The AWS account that this pod works in."""
    return str(wif.sdk.aws.session().client("sts").get_caller_identity()["Account"])


def management_token() -> str | None:
    """A token of Azure's management API, or None where Entra does not trust this pod."""
    exchanger = wif.from_env().azure
    if exchanger is None:
        return None
    with exchanger:
        try:
            return exchanger.credentials(scope="https://management.azure.com/.default").token
        except wif.RefusedError:
            return None
