"""The base of all named errors."""


class ClefError(ValueError):
    """What a user can cause and mend; the message says where, what was found and what to do.

    Command lines tell it in one line. Any other error but an `OSError` is a mistake in the program,
    and keeps its traceback.
    """
