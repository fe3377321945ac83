"""An access token as a service account, and an ID token for a service behind IAP or Cloud Run.

Reads GOOGLE_APPLICATION_CREDENTIALS, which names an ``external_account`` file. google-auth cannot make an ID token
from such a file. Needs no extra.
"""

from __future__ import annotations

import wif


def main() -> None:
    exchanger = wif.from_env().gcp
    if exchanger is None:
        raise SystemExit("GOOGLE_APPLICATION_CREDENTIALS is not set")
    with exchanger:
        access = exchanger.credentials()
        print(f"access token until {access.expires_at:%H:%M:%S} UTC")
        identity = exchanger.id_token(audience="https://service-abc.a.run.app")
        print(f"ID token until {identity.expires_at:%H:%M:%S} UTC")


if __name__ == "__main__":
    main()
