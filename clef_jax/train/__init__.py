"""Pretraining: optimiser, step, loop."""
