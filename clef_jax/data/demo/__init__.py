"""Simulated hearts and cohorts, for the demo and for tests."""
