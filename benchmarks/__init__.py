"""Measurements of the package's speed; `python -m benchmarks.report` renders their results."""
