"""Policy, tokenizer and adapter: precision, templates, padding, stop tokens, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig

from alignzoo.models import load
from alignzoo.models.tiny import CHATML
from alignzoo.system.errors import UserError

Compose = Callable[..., DictConfig]

MESSAGES = [{"role": "user", "content": "Hello"}]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from alignzoo.models.tiny import make_tiny

    folder = tmp_path_factory.mktemp("tiny") / "tiny"
    make_tiny(folder)
    return folder


def with_tokenizer(tiny: Path, folder: Path, **changes: Any) -> Path:
    """Save the tiny model with a changed tokenizer."""
    from transformers import AutoTokenizer

    shutil.copytree(tiny, folder)
    tokenizer = AutoTokenizer.from_pretrained(tiny)
    for name, value in changes.items():
        setattr(tokenizer, name, value)
    (folder / "chat_template.jinja").unlink()
    tokenizer.save_pretrained(folder)
    return folder


# Tokenizer


def test_a_tokenizer_pads_on_the_left_and_keeps_its_own_template(tiny: Path, compose_config: Compose) -> None:
    tokenizer = load.load_tokenizer(tiny, compose_config("model=tiny").model)
    assert tokenizer.padding_side == "left"
    assert tokenizer.pad_token == "<|endoftext|>"
    assert tokenizer.chat_template == CHATML


def test_without_a_padding_token_it_is_eos(tiny: Path, tmp_path: Path, compose_config: Compose) -> None:
    folder = with_tokenizer(tiny, tmp_path / "model", pad_token=None)
    tokenizer = load.load_tokenizer(folder, compose_config("model=tiny").model)
    assert tokenizer.pad_token == tokenizer.eos_token == "<|im_end|>"


def test_without_eos_a_tokenizer_is_refused(tiny: Path, tmp_path: Path, compose_config: Compose) -> None:
    folder = with_tokenizer(tiny, tmp_path / "model", eos_token=None)
    with pytest.raises(UserError, match="the tokenizer of model=tiny has no EOS token: no completion would ever end"):
        load.load_tokenizer(folder, compose_config("model=tiny").model)


def test_a_template_can_be_chosen(tiny: Path, tmp_path: Path, compose_config: Compose) -> None:
    own = "{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }} {% endfor %}"
    folder = with_tokenizer(tiny, tmp_path / "model", chat_template=own)
    (tmp_path / "mine.jinja").write_text("{% for m in messages %}({{ m['content'] }}){% endfor %}")

    def rendered(*words: str) -> Any:
        tokenizer = load.load_tokenizer(folder, compose_config("model=tiny", *words).model)
        return tokenizer.apply_chat_template(MESSAGES, tokenize=False, add_generation_prompt=True)

    assert rendered() == "[user] Hello "
    assert rendered("model.chat_template=chatml") == "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n"
    assert rendered(f"model.chat_template={tmp_path / 'mine.jinja'}") == "(Hello)"


def test_a_template_that_is_not_there_is_refused(tiny: Path, compose_config: Compose) -> None:
    cfg = compose_config("model=tiny", "model.chat_template=/no/such.jinja").model
    with pytest.raises(UserError, match=r"model\.chat_template=/no/such\.jinja: No such file or directory"):
        load.load_tokenizer(tiny, cfg)


def test_a_model_without_a_template_has_none(tiny: Path, tmp_path: Path, compose_config: Compose) -> None:
    folder = with_tokenizer(tiny, tmp_path / "model", chat_template=None)
    assert load.load_tokenizer(folder, compose_config("model=tiny").model).chat_template is None


# Stop tokens


@pytest.mark.parametrize(
    ("configured", "ids"), [(None, [2]), (2, [2]), (7, [7, 2]), ([5, 2, 7], [5, 2, 7]), ([5], [5, 2])]
)
def test_answers_end_at_the_configured_tokens_and_at_eos(
    tiny: Path, tmp_path: Path, compose_config: Compose, configured: Any, ids: list[int]
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny, folder)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": configured}))
    tokenizer = load.load_tokenizer(folder, compose_config("model=tiny").model)
    assert tokenizer.eos_token_id == 2
    assert load.read_eos_ids(folder, tokenizer) == ids


@pytest.mark.parametrize("configured", ["<|im_end|>", -1, 1.5, {"a": 1}, [[2]], [2, None, "x"]])
def test_a_generation_config_whose_eos_is_not_a_token_is_refused(
    tiny: Path, tmp_path: Path, compose_config: Compose, configured: Any
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny, folder)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": configured}))
    tokenizer = load.load_tokenizer(folder, compose_config("model=tiny").model)
    with pytest.raises(UserError, match=r"generation_config\.json: eos_token_id=.* is not the number of a token"):
        load.read_eos_ids(folder, tokenizer)


def test_without_a_generation_config_answers_end_at_eos(tiny: Path, tmp_path: Path, compose_config: Compose) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny, folder)
    (folder / "generation_config.json").unlink()
    tokenizer = load.load_tokenizer(folder, compose_config("model=tiny").model)
    assert load.read_eos_ids(folder, tokenizer) == [2]


# Policy


@pytest.mark.parametrize(
    ("words", "precision", "dtype"),
    [
        ((), "fp32", "float32"),
        ((), "bf16", "float32"),  # all weights train: the optimizer needs float32
        (("peft=lora",), "fp32", "float32"),
        (("peft=lora",), "bf16", "bfloat16"),
        (("peft=lora",), "fp16", "float32"),
        (("model.dtype=bfloat16",), "fp32", "bfloat16"),
        (("model.dtype=float32", "peft=lora"), "bf16", "float32"),
    ],
)
def test_the_precision_of_weights_in_memory(
    tiny: Path, compose_config: Compose, words: tuple[str, ...], precision: str, dtype: str
) -> None:
    import torch

    policy = load.load_policy(tiny, compose_config("model=tiny", *words), precision)
    assert {weight.dtype for weight in policy.parameters()} == {getattr(torch, dtype)}


def test_a_checkpoint_in_bfloat16_trains_in_float32(tiny: Path, tmp_path: Path, compose_config: Compose) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.bfloat16).save_pretrained(tmp_path / "half")
    policy = load.load_policy(tmp_path / "half", compose_config("model=tiny"), "fp32")
    assert policy.dtype == torch.float32


def test_the_policy_remembers_the_folder_that_the_reference_is_loaded_from(tiny: Path, compose_config: Compose) -> None:
    assert load.load_policy(tiny, compose_config("model=tiny"), "fp32").config._name_or_path == str(tiny)


@pytest.mark.parametrize("kind", ["eager", "sdpa"])
def test_attention_can_be_chosen(tiny: Path, compose_config: Compose, kind: str) -> None:
    cfg = compose_config("model=tiny", f"model.attn_implementation={kind}")
    assert load.load_policy(tiny, cfg, "fp32").config._attn_implementation == kind


@pytest.mark.parametrize("kind", ["no_such", "flash_attention_2"])
def test_attention_that_this_machine_lacks_is_refused(tiny: Path, compose_config: Compose, kind: str) -> None:
    cfg = compose_config("model=tiny", f"model.attn_implementation={kind}")
    with pytest.raises(UserError, match=r"model=tiny \(.*\) cannot be loaded: ") as caught:
        load.load_policy(tiny, cfg, "fp32")
    assert len(str(caught.value).splitlines()) == 1


def test_pickled_weights_are_refused(tiny: Path, tmp_path: Path, compose_config: Compose) -> None:
    """They can run any code as they are read."""
    import torch
    from transformers import AutoModelForCausalLM

    folder = tmp_path / "model"
    shutil.copytree(tiny, folder)
    (folder / "model.safetensors").unlink()
    torch.save(AutoModelForCausalLM.from_pretrained(tiny).state_dict(), folder / "pytorch_model.bin")
    with pytest.raises(UserError, match="safetensors"):
        load.load_policy(folder, compose_config("model=tiny"), "fp32")


def test_a_repositorys_own_code_is_not_run_unless_allowed(tiny: Path, tmp_path: Path, compose_config: Compose) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny, folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Config: pass\nclass Model: pass\n")
    with pytest.raises(UserError, match=r"Python code of its own.*\n.*model.trust_remote_code=true"):
        load.load_policy(folder, compose_config("model=tiny"), "fp32")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_start_weights_that_are_not_finite_are_refused(
    tiny: Path, tmp_path: Path, compose_config: Compose, value: float
) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    policy = AutoModelForCausalLM.from_pretrained(tiny)
    with torch.no_grad():
        policy.model.norm.weight[5] = value
    policy.save_pretrained(tmp_path / "broken")
    with pytest.raises(UserError) as caught:
        load.load_policy(tmp_path / "broken", compose_config("model=tiny"), "fp32")
    assert str(caught.value) == (
        "model=tiny: the weight model.norm.weight has NaN or infinite values. Take another checkpoint."
    )


def test_a_folder_without_weights_is_refused(tiny: Path, tmp_path: Path, compose_config: Compose) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny, folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"model=tiny \(.*model\) cannot be loaded: "):
        load.load_policy(folder, compose_config("model=tiny"), "fp32")


def no_tokenizer(folder: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (folder / name).unlink()


def half_of_the_weights(folder: Path) -> None:
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[: len(content) // 2])


def config(**changes: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        file = folder / "config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | changes))

    return change


def no_json(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_text("{") and None


BROKEN = {
    "no tokenizer": no_tokenizer,
    "half a file of weights": half_of_the_weights,
    "weights of another shape": config(vocab_size=900),
    "fewer layers than the config has": config(num_hidden_layers=3),
    "config.json": no_json("config.json"),
    "tokenizer.json": no_json("tokenizer.json"),
    "generation_config.json": no_json("generation_config.json"),
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_folder_is_refused(tiny: Path, tmp_path: Path, compose_config: Compose, how: str) -> None:
    shutil.copytree(tiny, tmp_path / "model")
    BROKEN[how](tmp_path / "model")
    found = complaint(tmp_path / "model", compose_config("model=tiny"))
    assert isinstance(found, UserError), found
    assert "model" in str(found)


def complaint(folder: Path, cfg: DictConfig) -> Exception | None:
    """Load everything from ``folder``, and return the error that this ends in."""
    try:
        tokenizer = load.load_tokenizer(folder, cfg.model)
        load.read_eos_ids(folder, tokenizer)
        load.load_policy(folder, cfg, "fp32")
    except Exception as error:
        return error
    return None


@pytest.mark.parametrize("kind", ["folder", "run folder"])
def test_a_further_model_is_loaded_frozen_from_what_a_path_names(
    start: Path, tmp_path: Path, compose_config: Callable[..., DictConfig], kind: str
) -> None:
    """As a method's teacher, by ``parts.load_model``."""
    cfg = compose_config("method=dpo", "model=tiny")
    path = start
    if kind == "run folder":
        path = tmp_path / "run"
        shutil.copytree(start, path / "model")
    model = load.load_further(str(path), cfg, "cpu", "fp32", load.load_tokenizer(start, cfg.model))
    assert not model.training
    assert not any(weight.requires_grad for weight in model.parameters())


def test_a_further_model_that_is_not_there_is_named(start: Path, compose_config: Callable[..., DictConfig]) -> None:
    cfg = compose_config("model=tiny")
    with pytest.raises(UserError, match=r"^/nowhere/at/all: no such folder"):
        load.load_further("/nowhere/at/all", cfg, "cpu", "fp32", load.load_tokenizer(start, cfg.model))


def test_a_method_gets_it_with_its_parts(
    start: Path, compose_config: Callable[..., DictConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A method of a teacher's, with the path in a key of its own."""
    from alignzoo.config.check import check
    from alignzoo.plugin.registry import registry
    from alignzoo.plugin.train_parts import TrainParts
    from alignzoo.train.inputs import prepare_run

    taught: list[Any] = []
    method = registry().method("sft")

    def keep(self: Any, parts: TrainParts) -> dict[str, Any]:
        taught.append(parts.load_model(parts.cfg.method.teacher))
        raise UserError("seen")

    monkeypatch.setattr(method, "options", frozenset({"teacher"}))
    monkeypatch.setattr(method, "trainer_arguments", keep)
    words = ("method=sft", "model=tiny", "dataset.rows=8", f"+method.teacher={start}")
    inputs = prepare_run(check(compose_config(*words)))
    with pytest.raises(UserError, match="seen"):
        inputs.build_trainer(inputs.make_trl_config(tmp_path), inputs.load_model())
    (teacher,) = taught
    assert teacher.config._name_or_path == str(start)
