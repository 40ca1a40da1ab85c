"""Recordings, preprocessing, shards and batches; imports neither jax nor flax."""
