"""The datasets that tasks are made of, a module each, and what they share; all without jax."""
