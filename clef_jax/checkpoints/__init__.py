"""Checkpoints on disk: those of a run, and folders that hold one encoder."""
