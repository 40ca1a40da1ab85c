"""Batches of a run: planned globally, read locally."""
