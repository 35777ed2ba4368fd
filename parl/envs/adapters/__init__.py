"""Environments of other packages, as the vector environments that executions step."""
