"""What tests look for in folders."""

from clef_jax.data.recordings.folders import search_folder


def paths_in(folder):
    """Returns the paths of all recordings in a folder and below."""
    return [found.path for found in search_folder(folder)[0]]
