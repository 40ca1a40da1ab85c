"""Batches of a run: dealt globally, read locally."""
