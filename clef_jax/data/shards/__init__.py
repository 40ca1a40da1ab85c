"""Shards of preprocessed leads on disk: layout, reading, writing."""
