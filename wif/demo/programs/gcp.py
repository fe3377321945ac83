"""What a developer's program looks like: google-auth and nothing of wif. Prints as whom the local STS took it."""

import json

import google.auth
from google.auth.transport.requests import AuthorizedSession

credentials, project = google.auth.default(scopes=["https://www.googleapis.com/auth/cloud-platform"])
session = AuthorizedSession(credentials)  # type: ignore[no-untyped-call]  # google-auth is not annotated
answer = session.get(f"https://cloudresourcemanager.googleapis.com/v1/projects/{project}", timeout=10)
answer.raise_for_status()
print(json.dumps({"identity": answer.headers["X-Wif-Local-STS-Caller"]}))  # noqa: T201
