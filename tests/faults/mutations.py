"""Damage of every kind to bytes and to settings, the same for the same seed."""

_NUMBERS = ("0", "-1", "1", "65536", "1e400", "nan", "99999999999999999999", "0x10", "1_0", "")
_PIECES = (b"\0", b"\n", b"\xff\xfe", b",", b"\t", b'"', b"..", b"/", b" ", b"{", b"]", b"-", b"~")
_VALUES = (None, 0, -1, 1, 2.5, 1e400, float("nan"), 10**30, "", "x", "nan", True, [], [1], {}, b"")


def mutated(content, rng):
    """Returns content with one to four pieces of damage."""
    changed = bytearray(content)
    for _ in range(rng.integers(1, 5)):
        if not changed:
            break
        _DAMAGES[rng.integers(len(_DAMAGES))](changed, rng)
    return bytes(changed)


def mutated_settings(values, rng):
    """Returns a nested dictionary with one to three values or keys changed."""
    changed = {
        key: mutated_settings(x, None) if isinstance(x, dict) else x for key, x in values.items()
    }
    if rng is None:
        return changed
    for _ in range(rng.integers(1, 4)):
        place = changed
        key = _choice(list(place), rng)
        while isinstance(place[key], dict) and place[key] and rng.random() < 0.8:
            place, key = place[key], _choice(list(place[key]), rng)
        how = rng.integers(4)
        if how < 2:
            place[key] = _choice(_VALUES, rng)
        elif how == 2:
            del place[key]
        else:
            place[f"{key}x"] = place[key]
        if not changed:
            break
    return changed


def _choice(options, rng):
    return options[rng.integers(len(options))]


def _flip(content, rng):
    content[rng.integers(len(content))] ^= 1 << rng.integers(8)


def _cut(content, rng):
    del content[rng.integers(len(content)) :]


def _remove(content, rng):
    begin = rng.integers(len(content))
    del content[begin : begin + rng.integers(1, 64)]


def _repeat(content, rng):
    begin, at = rng.integers(len(content), size=2)
    content[at:at] = content[begin : begin + rng.integers(1, 64)]


def _insert(content, rng):
    at = rng.integers(len(content))
    content[at:at] = _choice(_PIECES, rng)


def _overwrite(content, rng):
    begin = rng.integers(len(content))
    size = min(int(rng.integers(1, 9)), len(content) - begin)
    content[begin : begin + size] = rng.integers(256, size=size, dtype="u1").tobytes()


def _renumber(content, rng):
    """Puts another number in the place of one, in text as headers are."""
    digits = [i for i, byte in enumerate(content[:4096]) if chr(byte).isdigit()]
    if digits:
        begin = end = _choice(digits, rng)
        while end < len(content) and chr(content[end]).isdigit():
            end += 1
        content[begin:end] = _choice(_NUMBERS, rng).encode()


_DAMAGES = (_flip, _flip, _cut, _remove, _repeat, _insert, _overwrite, _renumber, _renumber)
