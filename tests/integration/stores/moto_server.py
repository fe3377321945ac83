"""S3 by moto on an ephemeral port, with two faults of moto repaired.

moto takes unsigned requests for ``.well-known`` documents for Cognito's and answers them with its own, whatever the
bucket holds; and it compares an object's ETag and writes it in two steps that other requests can come between.
"""

from __future__ import annotations

__all__ = ["MotoServer"]

import functools
import logging
import threading
import uuid
from typing import Any

import moto.s3.responses
from moto.moto_server import werkzeug_app
from moto.moto_server.threaded_moto_server import ThreadedMotoServer

ENVIRON = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI", "AWS_REGION": "us-east-1"}
"""Static keys, which moto takes unseen."""

_put_lock = threading.Lock()


def _repair() -> None:
    application: Any = werkzeug_app.DomainDispatcherApplication
    application.get_service_from_unsigned_path = staticmethod(lambda _path: (None, None))
    response: Any = moto.s3.responses.S3Response
    put_object = response.put_object
    if not hasattr(put_object, "__wrapped__"):

        @functools.wraps(put_object)
        def locked(*args: Any, **kwargs: Any) -> Any:
            with _put_lock:
                return put_object(*args, **kwargs)

        response.put_object = locked


class MotoServer:
    """A context manager. ``endpoint`` is what a target's ``endpoint`` says."""

    environ = ENVIRON

    def __init__(self) -> None:
        _repair()
        self._server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)

    def __enter__(self) -> MotoServer:
        logging.getLogger("werkzeug").setLevel(logging.ERROR)  # else a line for each of thousands of requests
        self._server.start()
        host, port = self._server.get_host_and_port()
        self.endpoint = f"http://{host}:{port}"
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop()

    def bucket(self) -> str:
        """The name of a new bucket, whose objects anybody may read."""
        import boto3

        name = f"bucket-{uuid.uuid4().hex[:12]}"  # moto keeps its buckets for the process, not for the server
        client = boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id=ENVIRON["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=ENVIRON["AWS_SECRET_ACCESS_KEY"],
        )
        client.create_bucket(Bucket=name, ACL="public-read")
        return name
