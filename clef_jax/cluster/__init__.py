"""Several processes as one run: where each stands, that they agree, what ends them."""
