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
    "returns a class for a list": Broken(
        METHOD.replace("[Theirs]", "Theirs"),
        "alignzoo_methods returned the class Theirs and not a list: return [Theirs]",
    ),
    "returns nothing": Broken(hook("alignzoo_judges", "pass"), "alignzoo_judges returned nothing: return a list"),
    "returns a number": Broken(hook("alignzoo_judges", "return 3"), "alignzoo_judges returned 3 and not a list"),
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
    "declares no data": Broken(
        METHOD.replace("DataFormat.PREFERENCE", "'pairs'"), "whose data is not one of DataFormat."
    ),
    "declares data that no trainer takes": Broken(METHOD.replace("PREFERENCE", "SCORED"), "whose data is not one of"),
    "declares data of another trainer": Broken(
        METHOD.replace("PREFERENCE", "PROMPTS"),
        "method=PACKAGE cannot run: its data is DataFormat.PROMPTS, and DPOTrainer reads DataFormat.PREFERENCE.",
        out=False,
    ),
    "declares a config that is not there": Broken(
        METHOD.replace("trl:DPOConfig", "trl:DPConfig"),
        "method=PACKAGE cannot run: its config trl:DPConfig is not in TRL",
        out=False,
    ),
    "declares a trainer that is not there": Broken(
        METHOD.replace("trl:DPOTrainer", "trl.nowhere:DPOTrainer"), "it has no module trl.nowhere", out=False
    ),
    "pins what is not there": Broken(
        METHOD.replace("data =", "pinned = {'bta': 1}\n    data ="),
        "method=PACKAGE cannot run: its pinned field 'bta' is not in DPOConfig. Did you mean beta",
        out=False,
    ),
    "ships no YAML of its method": Broken(
        METHOD, "method=PACKAGE cannot be chosen: no config package has method/PACKAGE.yaml. Write it", out=False
    ),
    "ships no YAML of its reward": Broken(
        METHOD.replace("Method", "Reward")
        .replace("    config", "    def __call__(self, prompts, completions, **more): return []\n    config")
        .replace("alignzoo_methods", "alignzoo_rewards"),
        "reward=PACKAGE cannot be chosen: no config package has reward/PACKAGE.yaml.",
        out=False,
    ),
    "ships the YAML of another method": Broken(
        METHOD + CONFIGS,
        "its method/theirs.yaml says name: dpoo, and no plugin adds that method. Did you mean dpo",
        out=False,
        configs={"method/theirs.yaml": "name: dpoo\n"},
    ),
    "declares no trainer": Broken(METHOD.replace("trl:DPOTrainer", "DPO"), "whose trainer is not"),
    "declares pinned as a list": Broken(
        METHOD.replace("data =", "pinned = ['beta']\n    data ="), "pinned is not a Mapping"
    ),
    "declares a name that nobody can type": Broken(
        METHOD.replace('"PACKAGE"', '"two words"'), "whose name 'two words' will not do: take 'two_words'"
    ),
    "declares a name with a dash": Broken(
        METHOD.replace('"PACKAGE"', '"Dashed-DPO"'), "whose name 'Dashed-DPO' will not do: take 'dashed_dpo'"
    ),
    "declares a name that YAML reads": Broken(
        METHOD.replace('"PACKAGE"', '"null"'), "whose name 'null' will not do: take 'my_null'"
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
    "forgets to mark its hooks": Broken(
        METHOD.replace("@hookimpl", ""),
        "its function alignzoo_methods is not marked as a hook: write @hookimpl above def alignzoo_methods",
        out=False,
    ),
    "forgets to mark one of two": Broken(
        METHOD + CONFIGS.replace("@hookimpl", ""), "its function alignzoo_config_packages is not marked", out=False
    ),
    "forgets to mark a hook, and misspells it": Broken(
        METHOD.replace("@hookimpl\ndef alignzoo_methods", "def alignzoo_method"),
        "its function alignzoo_method is not marked as a hook: write @hookimpl above def alignzoo_methods",
        out=False,
    ),
    "has no hook at all": Broken("", "has no hook: write functions marked with @hookimpl", out=False),
    "names what is not there": Broken(METHOD, "has no attribute 'nothing'", entry="PACKAGE = PACKAGE:nothing"),
    "names no module": Broken(METHOD, "AttributeError", entry="PACKAGE = not a module"),
    "needs a missing package": Broken(
        "import nothing_of_that_name", "ModuleNotFoundError: No module named 'nothing_of"
    ),
    "wants another alignzoo": Broken(METHOD, "it requires alignzoo>=9", requires="alignzoo>=9"),
    "is slow to import": Broken(before("import time; time.sleep(1.1)"), "s to import", out=False),
    "imports what is heavy": Broken(before("sys.modules['datasets'] = sys"), "imports datasets when it is", out=False),
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
