"""Every named error of the package is one that command lines tell without traceback."""

import importlib
import inspect
import pkgutil

import clef_jax
from clef_jax.errors import ClefError


def test_every_named_error_derives_from_the_base():
    modules = [
        importlib.import_module(module.name)
        for module in pkgutil.walk_packages(clef_jax.__path__, "clef_jax.")
    ]
    named = {
        found
        for module in modules
        for found in vars(module).values()
        if inspect.isclass(found)
        and issubclass(found, BaseException)
        and not issubclass(found, Warning)
        and found.__module__.startswith("clef_jax.")
    }
    assert len(named) > 15
    assert [error for error in named if not issubclass(error, ClefError)] == []
    # A message that names one of them says which.
    assert len({error.__name__ for error in named}) == len(named)
