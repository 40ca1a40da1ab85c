"""A limit on the size of files, as a quota is one: whoever writes beyond it gets an error."""

import contextlib
import resource


@contextlib.contextmanager
def no_file_above(size):
    """Lets no file of this process grow beyond so many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
