"""What a developer's program looks like: boto3 and nothing of wif. Prints what AWS calls it."""

import json

import boto3

identity = boto3.client("sts").get_caller_identity()
print(json.dumps({"identity": identity["Arn"]}))  # noqa: T201
