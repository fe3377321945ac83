"""A boto3 session from the pod's environment, and who AWS says we are.

Reads AWS_ROLE_ARN, AWS_WEB_IDENTITY_TOKEN_FILE and AWS_REGION. Needs the extra ``aws``.
"""

from __future__ import annotations

import wif.sdk.aws


def main() -> None:
    session = wif.sdk.aws.session()
    sts = session.client("sts")
    for _ in range(3):  # one exchange, however many calls
        print(sts.get_caller_identity()["Arn"])


if __name__ == "__main__":
    main()
