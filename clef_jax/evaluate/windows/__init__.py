"""Windows of recordings as encoders see them, read by processes that know no jax."""
