"""Damage as disks and copies do it."""


def flip_bit(path, rng):
    """Flips one random bit of a file and returns the content it had."""
    whole = path.read_bytes()
    content = bytearray(whole)
    content[rng.integers(len(content))] ^= 1 << rng.integers(8)
    path.write_bytes(content)
    return whole
