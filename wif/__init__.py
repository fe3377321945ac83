"""Multi-cloud workload identity federation."""
