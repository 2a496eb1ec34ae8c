"""Plugins that are each wrong in one way; PACKAGE in their texts stands for the package's name."""

from __future__ import annotations

from dataclasses import dataclass, field

METHOD = """
from alignzoo import DataFormat, Method, hookimpl

class Theirs(Method):
    "Theirs (nobody, 2030)."
    name = "PACKAGE"
    data = DataFormat.PREFERENCE
    config = "trl:DPOConfig"
    trainer = "trl:DPOTrainer"

@hookimpl
def alignzoo_methods():
    return [Theirs]
"""

HOOK = "\nfrom alignzoo import hookimpl\n@hookimpl\ndef {hook}():\n    {body}\n"

YAML = "# Good (nobody, 2030).\nname: good\n\n# A strength.\nbeta: 0.1\n"


@dataclass(frozen=True)
class Broken:
    """A plugin that is wrong in one way, and what ``list`` says of it."""

    code: str
    reason: str
    out: bool = True
    """Whether it is left out; else it stays in use."""

    requires: str = "alignzoo>=0.1"
    configs: dict[str, str] = field(default_factory=dict)
    entry: str = "PACKAGE = PACKAGE"


def hook(name: str, body: str, above: str = METHOD) -> str:
    return above + HOOK.format(hook=name, body=body)


def before(code: str) -> str:
    """Return a plugin that works, if it were not for ``code`` at its import."""
    return f"import os, sys\n{code}\n{METHOD}"


CONFIGS = hook("alignzoo_config_packages", "return ['PACKAGE.conf']", "")

BROKEN = {
    "raises at import": Broken("1 / 0", "ZeroDivisionError: division by zero"),
    "raises in alignzoo_methods": Broken(
        hook("alignzoo_methods", "raise KeyError('x')", ""), "alignzoo_methods raised"
    ),
    "raises in alignzoo_config_packages": Broken(
        hook("alignzoo_config_packages", "raise KeyError('x')"), "alignzoo_config_packages raised KeyError: 'x'"
    ),
    "raises in alignzoo_rewards": Broken(
        hook("alignzoo_rewards", "raise OSError('x')"), "alignzoo_rewards raised OSErr"
    ),
    "raises in alignzoo_judges": Broken(
        hook("alignzoo_judges", "raise OSError('x')"), "alignzoo_judges raised OSError"
    ),
    "raises as it yields": Broken(
        hook("alignzoo_judges", "yield from ()\n    raise OSError('x')"), "judges raised OSErr"
    ),
    "raises what is no Exception": Broken("class Odd(BaseException): pass\nraise Odd('no')", "Odd: no"),
    "raises what cannot be printed": Broken(
        "class Odd(Exception):\n    def __str__(self): return 1 / 0\nraise Odd",
        "Odd: without a text (ZeroDivisionError)",
    ),
    "returns a text for a list": Broken(hook("alignzoo_config_packages", "return 'a.b'"), "returned the text 'a.b'"),
    "returns a number as a package": Broken(
        hook("alignzoo_config_packages", "return [3]"), "not the import name of a package"
    ),
    "returns no reward": Broken(hook("alignzoo_rewards", "return [Theirs]"), "not a subclass of alignzoo.Reward"),
    "returns a reward that cannot be called": Broken(
        hook("alignzoo_rewards", "return [type('R', (__import__('alignzoo').Reward,), {'name': 'r'})]"),
        "lacks __call__",
    ),
    "returns no judge": Broken(hook("alignzoo_judges", "return [3]"), "not a subclass of alignzoo.Judge"),
    "returns what cannot be printed": Broken(
        hook("alignzoo_judges", "return [type('Odd', (), {'__repr__': lambda self: 1 / 0})()]"),
        "alignzoo_judges raised ZeroDivisionError",
    ),
    "declares no data": Broken(METHOD.replace("DataFormat.PREFERENCE", "'pairs'"), "whose data is"),
    "declares no trainer": Broken(METHOD.replace("trl:DPOTrainer", "DPO"), "whose trainer is not"),
    "declares pinned as a list": Broken(
        METHOD.replace("data =", "pinned = ['beta']\n    data ="), "pinned is not a Mapping"
    ),
    "declares a name that nobody can type": Broken(
        METHOD.replace('"PACKAGE"', '"two words"'), "whose name 'two words' cannot be typed"
    ),
    "takes a name of ours": Broken(METHOD.replace('"PACKAGE"', '"dpo"'), "alignzoo's is used", out=False),
    "has a YAML that shadows ours": Broken(
        METHOD + CONFIGS,
        "its method=dpo is not used: alignzoo ",
        out=False,
        configs={"method/dpo.yaml": "name: stolen\n", "config.yaml": "name: stolen\n", "method.yaml": "name: stolen\n"},
    ),
    "has a YAML that shadows Hydra's": Broken(
        METHOD + CONFIGS,
        "it has a folder hydra, whose options are Hydra's own",
        out=False,
        configs={"hydra/launcher/basic.yaml": "name: stolen\n"},
    ),
    "has a module for a config package": Broken(
        hook("alignzoo_config_packages", "return ['json.decoder']"), "'json.decoder' is not a package", out=False
    ),
    "prints at import": Broken(before("print('good morning')"), "prints when it is", out=False),
    "marks its text": Broken(
        before("print('[/b]')").replace("Theirs (nobody", "[/Theirs] (nobody"),
        "prints when it is loaded: '[/b]'",
        out=False,
    ),
    "closes the output": Broken(
        before("print('bye'); sys.stdout.close()"), "prints when it is loaded: 'bye'", out=False
    ),
    "takes both outputs": Broken(before("sys.stdout = sys.stderr = None; print(1 / 0)"), "ZeroDivisionError"),
    "leaves the folder": Broken(before("os.chdir('/'); 1 / 0"), "ZeroDivisionError"),
    "composes with Hydra": Broken(
        before("import hydra; hydra.initialize_config_module('alignzoo_conf', version_base='1.3'); 1 / 0"),
        "ZeroDivisionError",
    ),
    "starts a thread": Broken(
        before("import threading, time; threading.Thread(target=time.sleep, args=(0.5,)).start()"),
        "starts a thread when it is loaded: no command ends before it",
        out=False,
    ),
    "forgets to mark its hooks": Broken(METHOD.replace("@hookimpl", ""), "has no hook: mark its functions", out=False),
    "names what is not there": Broken(METHOD, "has no attribute 'nothing'", entry="PACKAGE = PACKAGE:nothing"),
    "names no module": Broken(METHOD, "AttributeError", entry="PACKAGE = not a module"),
    "needs a missing package": Broken(
        "import nothing_of_that_name", "ModuleNotFoundError: No module named 'nothing_of"
    ),
    "wants another alignzoo": Broken(METHOD, "it requires alignzoo>=9", requires="alignzoo>=9"),
    "is slow to import": Broken(before("import time; time.sleep(1.1)"), "s to import", out=False),
    "imports what is heavy": Broken(before("sys.modules['trl'] = sys"), "imports trl when it is", out=False),
    "exits": Broken(before("sys.exit(3)"), "SystemExit: 3"),
    "exits by os._exit": Broken(before("os._exit(3)"), "SystemExit: 3, by os._exit"),
    "exits by os._exit in a hook": Broken(
        hook("alignzoo_config_packages", "__import__('os')._exit(3)"), "alignzoo_config_packages raised SystemExit: 3"
    ),
    "has a config package that exits": Broken(
        METHOD + CONFIGS,
        "its config package PACKAGE.conf is not used (SystemExit: 4",
        out=False,
        configs={"__init__.py": "import os; os._exit(4)"},
    ),
    "has metadata that cannot be read": Broken(METHOD, "UnicodeDecodeError", requires="alignzoo\nAuthor: Andr\xe9"),
}
