"""The only doors to the outside: transport, token sources, the Kubernetes API, files."""
