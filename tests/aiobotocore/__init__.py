"""The tests of ``wif.sdk.aiobotocore``: a nox session of their own, because aiobotocore pins another botocore."""
