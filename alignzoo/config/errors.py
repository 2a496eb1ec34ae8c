"""Explains Hydra's and OmegaConf's errors in the user's words: what is wrong, where, and what to type instead."""

from __future__ import annotations

import re
import sys
import traceback
from collections.abc import Collection
from pathlib import Path
from typing import Any

from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException
from yaml import MarkedYAMLError

from alignzoo.config.options import config_options
from alignzoo.config.trl_fields import read_config_fields
from alignzoo.plugin.registry import registry
from alignzoo.system.errors import did_you_mean, explain_missing, find_nearest
from alignzoo.system.parsing import describe_parser_error

#: Words by which others begin a training.
TRAINING = frozenset({"fit", "run", "start", "train"})

#: Launchers of sweeps that come with an extra of alignzoo.
LAUNCHERS = {"joblib": "joblib", "ray": "ray"}


def explain(error: Exception) -> str | None:
    """Return one or two lines for an error of the configuration, or None for any other error."""
    if isinstance(error, MissingConfigException):
        return _explain_missing_option(error)
    if isinstance(error, OverrideParseException) and _has_undecoded_bytes(error.override):
        encoding = sys.getfilesystemencoding()
        return f"cannot read {error.override!r}: it holds bytes that are not {encoding}. Set LC_ALL=C.UTF-8."
    if isinstance(error, OverrideParseException):
        return explain_word(error.override)
    if isinstance(error, ConfigCompositionException):
        return _explain_composition(error)
    if isinstance(error, OmegaConfBaseException):
        return _explain_value(error)
    if isinstance(error, HydraException):
        gone = re.search(r"Additional config directory '(.+)' not found", str(error))
        return f"--config-dir {gone[1]}: no such folder.{explain_missing(gone[1])}" if gone else _first_line(error)
    if isinstance(error, MarkedYAMLError) and error.problem_mark:
        mark = error.problem_mark
        return f"{mark.name}, line {mark.line + 1}: not YAML: {error.problem}."
    if isinstance(error, UnicodeDecodeError) and (unreadable := _find_file_read(error) or _find_unreadable_option()):
        return f"{unreadable} is not written in UTF-8: {error.reason}."
    if unreadable := _find_file_read(error):  # PyYAML raises a dozen kinds, and Hydra others about a defaults list
        return f"{unreadable} cannot be read: {describe_parser_error(error)}."
    if isinstance(error, UnicodeEncodeError) and "config_loader_impl" in _list_files(error):
        return f"the configuration names a file that no disk has: {error.object!a}."
    if isinstance(error, ValueError) and "--multirun" in str(error):  # Hydra's check of its own flags
        return _first_line(error)
    if isinstance(error, ValueError) and _is_raised_in(error, "omegaconf"):  # of a list's index
        return f"a list's item is chosen by its number, as in method.loss_type.0: {error}."
    return None


def _has_undecoded_bytes(word: str) -> bool:
    """Tell whether a word of the command line is not text in the encoding of the locale."""
    return any("\udc80" <= character <= "\udcff" for character in word)


def explain_word(word: str, commands: Collection[str] = ()) -> str:
    """Return what to write for a word of the command line that cannot be read: a command, an option, or key=value."""
    if word.lower() in TRAINING:
        return f"a training has no command word: leave {word} out, as in `python -m alignzoo method=dpo`."
    options = {f"{group}={name}": name for group, named in config_options().items() for name in named}
    near = find_nearest(word.lower(), {*commands, *options.values()}, 1)
    meant = [word for word in near if word in commands] + [key for key, name in options.items() if name in near]
    if meant and re.fullmatch(r"[\w.-]+", word):
        return f"{word} is neither a command nor key=value. Did you mean {' or '.join(meant[:3])}?"
    return f"cannot read {word!r}: write key=value, and quote brackets and spaces, as in 'key=[a,b]'."


def _find_file_read(error: Exception) -> str | None:
    """Return the file, or the option and who ships it, that Hydra was reading when the error was raised, or None."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__) if frame.f_code.co_name == "load_config"]
    found = [frame.f_locals for frame in frames if {"source", "config_path"} <= {*frame.f_locals}]
    if not found:
        return None
    source, name = found[-1]["source"], found[-1]["config_path"].removesuffix(".yaml")
    if source.scheme() == "file":
        return f"{source.path}/{name}.yaml"
    return f"{'='.join(name.rsplit('/', 1))} ({source.provider})"


def _find_unreadable_option() -> str | None:
    """Return the first option whose YAML is not UTF-8, with who ships it."""
    for group, options in config_options().items():
        for name, option in options.items():
            try:
                _ = option.text
            except UnicodeDecodeError:
                return f"{group}={name} ({option.origin})"
    return None


def _list_files(error: Exception) -> str:
    """Return the paths of the files of Python through which the error came."""
    return " ".join(frame.f_code.co_filename for frame, _ in traceback.walk_tb(error.__traceback__))


def _is_raised_in(error: Exception, package: str) -> bool:
    """Tell whether the error comes out of a package's own code."""
    frames = list(traceback.walk_tb(error.__traceback__))
    return bool(frames) and f"{package}/" in frames[-1][0].f_code.co_filename.replace("\\", "/")


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _explain_missing_option(error: MissingConfigException) -> str:
    match = re.search(r"Could not (?:find|load) '(?:.*: )?([^']+)/([^/']*)'", str(error))
    if not match:
        return _explain_primary(error)
    group, name = match.groups()
    options = [option for option in error.options or _option_names(group) if not option.startswith("_")]
    if group == "hydra/launcher" and name in LAUNCHERS:
        return f"hydra/launcher={name} is not installed: pip install 'alignzoo[{LAUNCHERS[name]}]'."
    listed = f"\nThere are: {', '.join(options)}." if options else f"\nThe group {group} has no options."
    return f"{group}={name}: no such option.{did_you_mean(name, options)}{_name_broken_plugins(group)}{listed}"


def _explain_primary(error: MissingConfigException) -> str:
    """Say which configuration ``--config-name`` was meant to name: one of those in the folder of ``--config-dir``."""
    words = sys.argv
    folders = [words[at] for at in range(1, len(words)) if words[at - 1] in ("--config-dir", "-cd")]
    known = sorted({"config", *(path.stem for folder in folders for path in Path(folder).glob("*.yaml"))})
    name = str(error.missing_cfg_file)
    return f"--config-name {name}: no such configuration.{did_you_mean(name, known)}\nThere are: {', '.join(known)}."


def _option_names(group: str) -> list[str]:
    """Return the names of a group's options."""
    return sorted(config_options().get(group, {}))


def _name_broken_plugins(group: str) -> str:
    """Name the plugins that could have brought the option, had they loaded."""
    broken = [plugin for plugin in registry().plugins.values() if plugin.problem]
    return (
        "".join(f" Plugin {p.name} ({p.origin}) is left out: {p.problem}." for p in broken) if group == "method" else ""
    )


def _explain_composition(error: ConfigCompositionException) -> str:
    cause = error.__cause__
    if isinstance(cause, OmegaConfBaseException) and "is not in struct" in str(cause):
        return _explain_unknown_key(str(cause.full_key), cause.parent_node)
    if isinstance(cause, OmegaConfBaseException):
        return _explain_value(cause)
    match = re.search(r"Ambiguous value for argument '([^=]+)=(.*)'", str(error))
    if match:
        key, values = match.groups()
        return f"{key}={values} names several: add -m to run each of them, or write '{key}=[{values}]' for a list."
    match = re.search(r"An item is already at '([^']+)'", str(error))
    if match:
        return f"{match[1]} has a value already: write {match[1]}=... without the plus sign."
    match = re.search(r"^(\S+) appears more than once", str(error)) or re.search(r"'\+\+([\w/]+)=", str(error))
    match = match or re.search(r"^Multiple values for ([\w/]+)\.", str(error))
    if match:
        return f"{match[1]} is chosen already: write {match[1]}=... without the plus sign."
    match = re.search(r"'([^']+)' does not exist", str(error))
    if match:
        return f"{match[1]} cannot be deleted: unknown key."
    return _first_line(error)


def _explain_unknown_key(key: str, parent: Any) -> str:
    group, _, last = key.rpartition(".")
    known = {str(name) for name in parent} if isinstance(parent, DictConfig) else set()
    fields = _trl_fields(group, parent)
    if last in fields and last not in known:
        return f"{key} stands in the method's TRL config only: write +{key}=... to set it."
    near = [f"{group}.{name}" if group else name for name in find_nearest(last, known)]
    near += [f"+{group}.{name}" for name in find_nearest(last, fields, 2) if name not in known]
    hint = (
        f" Did you mean {' or '.join(near[:3])}?"
        if near
        else f" {group or 'The top level'} has: {', '.join(sorted(known))}."
    )
    return f"{key}: unknown key.{hint}"


def _trl_fields(group: str, parent: Any) -> dict[str, str]:
    if group not in ("method", "train") or not isinstance(parent, DictConfig):
        return {}
    root: Any = parent._get_root()
    name = root.method.get("name") if "method" in root else parent.get("name")
    methods = registry().methods
    return read_config_fields(methods[name][0].config) if name in methods else {}


def _explain_value(error: OmegaConfBaseException) -> str:
    key = error.full_key or "the configuration"
    if "is not in struct" in str(error):
        return f"{key} is needed, and was deleted or is misspelt."
    if "Missing mandatory value" in str(error):
        return f"{key} is needed: add {key}=VALUE."
    if type(error).__name__.startswith("Interpolation") or "Interpolation" in str(error):
        return f"{key}: {_first_line(error)}."
    return f"{key}: {_first_line(error)}"
