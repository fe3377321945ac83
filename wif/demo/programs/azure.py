"""What a developer's program looks like: azure-identity and nothing of wif. Prints what Entra calls it."""

import json
import os

import jwt
from azure.identity import DefaultAzureCredential

token = DefaultAzureCredential().get_token("https://management.azure.com/.default").token
keys = jwt.PyJWKClient(f"https://login.microsoftonline.com/{os.environ['AZURE_TENANT_ID']}/discovery/v2.0/keys")
claims = jwt.decode(
    token,
    keys.get_signing_key_from_jwt(token).key,
    algorithms=["RS256", "ES256"],
    audience="https://management.azure.com",
)
print(json.dumps({"identity": claims["appid"]}))  # noqa: T201
