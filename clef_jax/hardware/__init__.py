"""What the machine can do: peaks of known chips, the CPU allocator's settings."""
