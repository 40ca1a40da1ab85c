"""Grouped convolutions as Pallas kernels for TPU."""
