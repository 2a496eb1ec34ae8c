"""Each patch of another library is marked, is on its page of the documentation, and is still needed."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hydra._internal.hydra import Hydra
from hydra.core.config_store import ConfigStore
from repository import ROOT

from alignzoo.config import compose

FILES = sorted([*(ROOT / "alignzoo").rglob("*.py"), *(ROOT / "plugins").rglob("*.py")])
PAGE = (ROOT / "docs" / "reference" / "patches.md").read_text()
REPLACED = re.findall(r"^\| (\w+) \| `([\w.]+)` \| `([\w./]+)` \| .+ \| .+ \|$", PAGE, re.MULTILINE)

#: Symbol -> the module of the library that uses it, and how its source does.
CALLED = {
    "ConfigLoaderImpl.load_configuration": ("hydra._internal.hydra", "self.config_loader.load_configuration("),
    "ImportlibResourcesConfigSource._read_config": (
        "hydra._internal.core_plugins.importlib_resources_config_source",
        "return self._read_config(res)",
    ),
    "dynamic_module_utils.TIME_OUT_REMOTE_CODE": ("transformers.dynamic_module_utils", "TIME_OUT_REMOTE_CODE > 0"),
    "loading_report.PALETTE": ("transformers.utils.loading_report", "{PALETTE['bold']}"),
    "auto_factory.resolve_trust_remote_code": (
        "transformers.models.auto.auto_factory",
        "trust_remote_code = resolve_trust_remote_code(",
    ),
    "text.strip_control_codes": ("rich.text", "strip_control_codes(text)"),
    "live.FileProxy": ("rich.live", "FileProxy(self.console, sys.stdout)"),
    "std.DisableOnWriteError": ("tqdm.std", "DisableOnWriteError(file, tqdm_instance=self)"),
    "chat_template_utils.ImmutableSandboxedEnvironment": (
        "transformers.utils.chat_template_utils",
        "jinja_env = ImmutableSandboxedEnvironment(",
    ),
    "HydraConfig.cfg": ("hydra.core.hydra_config", "self.cfg = "),
    "Job.results": ("hydra_plugins.hydra_submitit_launcher.submitit_launcher", ".results()"),
    "_core.ray": ("hydra_plugins.hydra_ray_launcher._core", "ray.get("),
    "Trainer._save_checkpoint": ("transformers.trainer", "self._save_checkpoint("),
    "Trainer._get_output_dir": ("transformers.trainer", "self._get_output_dir("),
    "Trainer._run_epoch": ("transformers.trainer", "self._run_epoch("),
    "Trainer._finalize_training": ("transformers.trainer", "self._finalize_training("),
    "Trainer._initial_global_step": ("transformers.trainer", "self._initial_global_step"),
    "Trainer._get_train_sampler": ("transformers.trainer", "self._get_train_sampler"),
    "GenerationMixin.generate": ("trl.trainer.grpo_trainer", "= unwrapped_model.generate("),
    "PreTrainedModel.should_save_on_this_rank": ("transformers.modeling_utils", "self.should_save_on_this_rank("),
    "deepspeed._hf_deepspeed_config_weak_ref": (
        "transformers.integrations.deepspeed",
        "_hf_deepspeed_config_weak_ref()",
    ),
    "constants.HF_HUB_OFFLINE": ("huggingface_hub.constants", "return HF_HUB_OFFLINE"),
    "DPOTrainer._prepare_dataset": ("trl.trainer.dpo_trainer", "self._prepare_dataset("),
    "ORPOTrainer.tokenize_row": ("trl.experimental.orpo.orpo_trainer", "self.tokenize_row"),
    "DPOTrainer._precompute_ref_logps": ("trl.trainer.dpo_trainer", "self._precompute_ref_logps("),
    "utils._use_triton": ("trl.trainer.utils", "_use_triton("),
    "ORPOTrainer.concatenated_forward": ("trl.experimental.orpo.orpo_trainer", "self.concatenated_forward("),
    **{
        f"DistillationTrainer.{name}": ("trl.trainer.distillation_trainer", text)
        for name, text in {
            "model_kwarg_keys": 'if "logits_to_keep" in self.model_kwarg_keys',
            "_generate_and_score_completions": "self._generate_and_score_completions(",
            "_tokenize_prompts": "self._tokenize_prompts(",
            "_generate_single_turn": "self._generate_single_turn(",
            "_compute_loss": "self._compute_loss,",
        }.items()
    },
    "DPOTrainer.compute_ref_log_probs": ("trl.trainer.dpo_trainer", "self.compute_ref_log_probs("),
}

#: Symbols that stay whatever a library does, or that tests of their own cover.
ELSEWHERE = {
    "ConfigStore.__deepcopy__": "test_hydra_copies_its_store",
    "ArgumentParser._check_help": "tests/config/test_hydra_patches.py",
    "_exit": "tests/plugin/test_broken_plugins.py",
    "PreTrainedModel.forward": "tests/models/shared_prefix",
}


def test_every_patch_is_on_the_page_and_marked_in_the_code() -> None:
    marked = {
        (library, symbol, str(path.relative_to(ROOT)))
        for path in FILES
        for library, symbol in re.findall(r"^ *# patch: (\w+) ([\w.]+)$", path.read_text(), re.MULTILINE)
    }
    assert marked == set(REPLACED)


def test_every_patch_has_a_test_that_it_is_needed() -> None:
    assert {symbol for _, symbol, _ in REPLACED} == CALLED.keys() | ELSEWHERE.keys()


@pytest.mark.parametrize("symbol", CALLED)
def test_the_library_still_calls_what_is_replaced(symbol: str) -> None:
    module, text = CALLED[symbol]
    if module.startswith("hydra_plugins."):
        pytest.importorskip(module)
    assert text in inspect.getsource(importlib.import_module(module)), f"{symbol}: see docs/reference/patches.md"


def test_the_trainer_of_orpo_has_no_fused_head_yet() -> None:
    source = inspect.getsource(importlib.import_module("trl.experimental.orpo.orpo_trainer"))
    assert "fused_lm_head" not in source, "plugins/preference/orpo.py needs no fused head of its own"


def test_hydra_copies_its_store(compose_config: Callable[..., object], monkeypatch: pytest.MonkeyPatch) -> None:
    compose_config()  # which patches it
    copies: list[object] = []

    def counted(store: ConfigStore, memo: object) -> ConfigStore:
        copies.append(memo)
        return store

    monkeypatch.setattr(ConfigStore, "__deepcopy__", counted)
    monkeypatch.setattr(compose, "patch_hydra", lambda: None)
    compose_config()
    assert copies, "Hydra copies its store no more: alignzoo/config/hydra_patches.py need not patch it"


def test_hydra_composes_for_the_mode() -> None:
    assert "cfg = self.compose_config(" in inspect.getsource(Hydra.get_mode), "it need not be composed once only"


def own_names() -> set[str]:
    """Return the names that alignzoo's own functions, classes and attributes have."""
    names: set[str] = set()
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                names.add(node.name)
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                names.update([node.attr] if ast.unparse(node.value) == "self" else [])
    return names


def foreign(path: Path, own: set[str]) -> Iterator[str]:
    """Yield the private names and modules of other libraries that a file uses."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and not node.level and re.search(r"\b_[a-z]", node.module or ""):
            yield str(node.module)
        elif isinstance(node, ast.Attribute) and re.match(r"_[a-z]", node.attr) and node.attr not in own:
            yield node.attr


def test_every_private_name_of_a_library_is_on_the_page() -> None:
    own = own_names() | {"_target_"}
    used = {name for path in FILES for name in foreign(path, own)}
    assert {name for name in used if not re.search(rf"[`.]{re.escape(name)}`", PAGE)} == set()


def assigned(path: Path) -> Iterator[str]:
    """Yield what a file assigns to attributes of other libraries' modules and classes, and functions to objects."""
    tree = ast.parse(path.read_text())
    imported = {
        alias.asname or alias.name.split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        and not str(getattr(node, "module", "") or "").startswith("alignzoo")
        for alias in node.names
        if isinstance(node, ast.ImportFrom) or alias.name.split(".")[0] not in sys.stdlib_module_names
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.Assign):
            continue
        made = isinstance(node.value, ast.Lambda) or ast.unparse(node.value).startswith("MethodType(")
        targets = [leaf for target in node.targets for leaf in ast.walk(target) if isinstance(leaf, ast.Attribute)]
        for target in targets:
            root = ast.unparse(target).split(".")[0]
            if isinstance(target.ctx, ast.Store) and root != "self" and (made or root in imported):
                yield target.attr


def test_what_is_assigned_to_another_library_is_marked() -> None:
    for path in FILES:
        marks = re.findall(r"# patch: \w+ ([\w.]+)", path.read_text())
        assert set(assigned(path)) <= {mark.split(".")[-1] for mark in marks}, path
