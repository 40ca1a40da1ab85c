"""The C library's allocator, set up for steps that run on the CPU."""

import ctypes
import importlib.metadata
import importlib.util
import os
import sys

# Parameters of glibc's mallopt and of Linux's madvise, from their headers.
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8
_MADV_HUGEPAGE = 14
_HUGE_PAGE = 2 << 20


def steps_run_on_cpu() -> bool:
    """Returns whether JAX will compute on the CPU, told without starting or importing it.

    That is what the environment chooses, and else what JAX finds a plugin for comes before the CPU.
    """
    chosen = os.environ.get("JAX_PLATFORMS") or os.environ.get("JAX_PLATFORM_NAME")
    if chosen:
        return chosen.split(",")[0].strip().lower() == "cpu"
    plugins = importlib.metadata.entry_points(group="jax_plugins")
    return not plugins and not any(map(importlib.util.find_spec, ("jax_plugins", "libtpu")))


def keep_freed_memory() -> bool:
    """Lets this process keep the memory it frees, on huge pages, instead of handing it back.

    XLA allocates a step's temporaries for every step anew. Without this, each of their pages of
    4 kB is given back to the kernel after the step and faulted in again, zeroed, in the next. Call
    it before JAX starts its devices: threads that have an allocator of their own keep it. Holds for
    the whole process and cannot be undone.

    Returns:
        Whether the C library took the settings; one other than glibc has none.
    """
    if sys.platform != "linux":
        return False
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallopt"):
        return False
    # Whatever the size, take memory from the one heap, and never shorten the heap.
    settings = {_MMAP_MAX: 0, _TRIM_THRESHOLD: -1, _ARENA_MAX: 1}
    taken = all([libc.mallopt(parameter, value) for parameter, value in settings.items()])
    _advise_huge_pages(libc, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2)
    return taken


def _advise_huge_pages(libc: ctypes.CDLL, size: int) -> None:
    """Grows the heap by `size` bytes of addresses, no memory yet, that huge pages will back."""
    libc.malloc.argtypes, libc.malloc.restype = [ctypes.c_size_t], ctypes.c_void_p
    libc.free.argtypes, libc.free.restype = [ctypes.c_void_p], None
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    begin = libc.malloc(size)
    if begin is None:
        return
    aligned = -(-begin // _HUGE_PAGE) * _HUGE_PAGE
    # A kernel without huge pages refuses, and nothing is lost.
    libc.madvise(aligned, (begin + size - aligned) // _HUGE_PAGE * _HUGE_PAGE, _MADV_HUGEPAGE)
    libc.free(begin)
