"""Our Signature Version 4 is botocore's."""

from __future__ import annotations

from datetime import UTC, datetime
from unittest import mock

import botocore.auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from wif.clouds.aws_signing import signed_headers
from wif.core.credentials import AwsCredentials

VISIBLE = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=60)
HOSTS = st.sampled_from(
    [
        "sts.eu-central-1.amazonaws.com",
        "sts.amazonaws.com",
        "localhost:8443",
        "localhost:443",
        "127.0.0.1:18080",
        "[::1]:9000",
    ]
)
PATHS = st.lists(st.text(st.sampled_from("abzAZ09_~-"), min_size=1, max_size=8), max_size=3).map(
    lambda p: "/" + "/".join(p)
)
TIMES = st.integers(min_value=0, max_value=4_000_000_000)


def credentials(access_key: str, secret: str, session: str) -> AwsCredentials:
    return AwsCredentials(
        access_key_id=access_key,
        secret_access_key=secret,
        session_token=session,
        expires_at=datetime(2030, 1, 1, tzinfo=UTC),
        lifetime_seconds=1,
    )


@given(
    keys=st.tuples(VISIBLE, VISIBLE, st.one_of(st.just(""), VISIBLE)),
    scheme=st.sampled_from(["https", "http"]),
    host=HOSTS,
    path=PATHS,
    body=st.binary(max_size=200),
    region=st.sampled_from(["us-east-1", "eu-central-1", "cn-north-1"]),
    value=st.text(st.sampled_from("ab c;=/"), max_size=20),
    seconds=TIMES,
)
def test_the_signature_is_the_one_that_botocore_makes(
    keys: tuple[str, str, str], scheme: str, host: str, path: str, body: bytes, region: str, value: str, seconds: int
) -> None:
    url = f"{scheme}://{host}{path}"
    headers = {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8", "X-Some": value}
    ours = signed_headers(
        method="POST",
        url=url,
        headers=headers,
        body=body,
        credentials=credentials(*keys),
        region=region,
        now=float(seconds),
    )
    request = AWSRequest(method="POST", url=url, headers=dict(headers), data=body)
    moment = datetime.fromtimestamp(seconds, UTC)
    with mock.patch.object(botocore.auth, "get_current_datetime", return_value=moment.replace(tzinfo=None)):
        botocore.auth.SigV4Auth(Credentials(keys[0], keys[1], keys[2] or None), "sts", region).add_auth(request)
    assert ours["Authorization"] == request.headers["Authorization"]
    assert ours["X-Amz-Date"] == request.headers["X-Amz-Date"]
    assert ours.get("X-Amz-Security-Token") == request.headers.get("X-Amz-Security-Token")


def test_the_headers_given_stay() -> None:
    given_headers = {"Accept": "text/xml"}
    result = signed_headers(
        method="POST",
        url="https://sts.amazonaws.com/",
        headers=given_headers,
        body=b"",
        credentials=credentials("ASIAX", "secret", "session"),
        region="us-east-1",
        now=0.0,
    )
    assert result["Accept"] == "text/xml"
    assert given_headers == {"Accept": "text/xml"}
    assert "secret" not in str(result).replace("session", "")
