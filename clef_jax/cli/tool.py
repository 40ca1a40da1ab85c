"""What the tools' command lines share: a line for each mistake, and help that is complete."""

import difflib
import os
import pathlib
import re
import runpy
import sys
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple, NoReturn

from absl import app, flags

from clef_jax.cli.arguments import UsageError, require_disks
from clef_jax.cli.ending import line_of
from clef_jax.nested import flatten

_SETTING = re.compile(r"^--?(?:no)?config\.([\w.]+)(?:=.*)?$", re.DOTALL)
_COMMENTED = re.compile(r"^ *config\.([\w.]+) = .*?# (.*)$", re.MULTILINE)
_HELP = {"--help", "-help", "-h", "--helpshort"}


class Unlisted(NamedTuple):
    """What may be set besides the settings that a configuration file lists.

    Attributes:
        about: The settings that there are although a file need not list them, and what help says
            of each.
        renamed: Settings of earlier releases, or groups of them, and what they are called now.
    """

    about: Mapping[str, str] = {}
    renamed: Mapping[str, str] = {}


def run(
    main: Callable[[], None],
    *,
    example_config: str | None = None,
    unlisted: Callable[[], Unlisted] = Unlisted,
    in_stores: Collection[str] = (),
) -> NoReturn:
    """Runs a tool's `main` and exits: 0; 1 after an error; 2 for a wrong command line.

    What a user can cause and mend is told in a line; a mistake in the program keeps its traceback.

    Args:
        main: Reads its flags from the module that defines them.
        example_config: For a tool with the flag --config, the file whose settings its help shows
            where none is given.
        unlisted: Called only where it matters, as it may import much.
        in_stores: Flags whose values may be in a store; all others name files of this machine.
    """
    tool = pathlib.Path(sys.argv[0]).stem

    def parse(argv: list[str]) -> list[str]:
        try:
            rest = _parse(argv, example_config, unlisted)
            given = flags.FLAGS.flag_values_dict()
            require_disks({f"--{k}": v for k, v in given.items() if k not in in_stores})
            return rest
        except (UsageError, flags.Error) as error:
            _leave(tool, str(error), 2)

    def run_main(_) -> None:
        try:
            main()
        except UsageError as error:
            _leave(tool, str(error), 2)
        except Exception as error:
            if (line := line_of(error)) is None:
                raise
            _leave(tool, line, 1)
        except KeyboardInterrupt:
            _leave(tool, "interrupted; the same command goes on where it stopped", 130)

    app.run(run_main, flags_parser=parse)


def _leave(tool: str, line: str, code: int) -> NoReturn:
    print(f"{tool}: {line}", file=sys.stderr)
    sys.exit(code)


def _parse(
    argv: list[str], example_config: str | None, unlisted: Callable[[], Unlisted]
) -> list[str]:
    asks_for_help = not _HELP.isdisjoint(argv[1:])
    path = None
    if example_config is not None:
        path = _config_path(argv) or (example_config if asks_for_help else None)
    config = _load(path) if path else {}
    given = {match[1] for match in filter(None, map(_SETTING.match, argv))}
    about, renamed = unlisted() if asks_for_help or given - config.keys() else Unlisted()
    config |= {key: None for key in about if key not in config}
    if asks_for_help:
        print(sys.modules["__main__"].__doc__ or "")
        print(flags.FLAGS.main_module_help())
        if path:
            print(f"\nsettings, as in {path}:\n" + "\n".join(_settings(path, config, about)))
        sys.exit(0)
    if path:
        for key in sorted(given - config.keys()):
            _refuse(key, config, renamed)
    try:
        rest = flags.FLAGS(argv)
    except flags.Error as error:
        raise UsageError("; ".join(line.strip() for line in str(error).splitlines())) from None
    if len(rest) > 1:
        raise UsageError(f"{rest[1]!r} belongs to no flag; write --flag=value")
    return rest


def _config_path(argv: list[str]) -> str | None:
    """Returns the value of --config, as absl would take it."""
    found = None
    for argument, following in zip(argv, [*argv[1:], None], strict=True):
        name, given, value = argument.partition("=")
        if name in ("--config", "-config"):
            found = value if given else following
    return found


def _load(path: str) -> dict[str, Any]:
    """Returns the settings of a configuration file, flat: {"method.name": "clef", …}."""
    if not os.path.isfile(path):
        raise UsageError(f"--config={path}: no such file")
    module = runpy.run_path(path)
    if "get_config" not in module:
        raise UsageError(f"--config={path}: has no function get_config()")
    return flatten(module["get_config"]().to_dict())


def _refuse(key: str, config: dict[str, Any], renamed: Mapping[str, str]) -> NoReturn:
    outermost = key.split(".")[0]
    if outermost in renamed:
        raise UsageError(
            f"--config.{outermost} is called --config.{renamed[outermost]} now (--help lists all)"
        )
    if inside := [known for known in config if known.startswith(f"{key}.")]:
        choices = ", ".join(f"--config.{known}" for known in inside)
        raise UsageError(f"--config.{key} holds several settings: {choices}")
    near = difflib.get_close_matches(key, config, n=1, cutoff=0)
    raise UsageError(
        f"--config.{key}: there is no such setting; the nearest is --config.{near[0]} "
        "(--help lists them all)"
    )


def _settings(path: str, config: dict[str, Any], about: Mapping[str, str]) -> list[str]:
    """Returns lines for each setting: its default, and its comment in the file it is set in."""
    parents = [
        module.__file__
        for name, module in sys.modules.items()
        if name.startswith("configs.") and module.__file__
    ]
    comments = dict(about)
    for file in (*parents, path):
        comments |= dict(_COMMENTED.findall(pathlib.Path(file).read_text(encoding="utf-8")))
    return [
        f"  --config.{key}={'' if value is None else value}\n      {comments.get(key, '')}".rstrip()
        for key, value in config.items()
    ]
