"""Trainings with tools and in an environment: what reaches the loss, of GRPO and of RLOO, and what is refused."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from inprocess import run
from torch import Tensor

from alignzoo import UserError
from alignzoo.config.check import check

#: One batch of two groups.
SMALL = (
    *("experiment=treasure", "strategy.device=cpu", "train.precision=fp32", "method.num_generations=4"),
    *("train.global_batch_size=8", "train.per_device_batch_size=8", "method.max_completion_length=64"),
)

PLACES = (0, 0, 0, 0, 1, 1, 1, 1)  #: the row of each completion

TRAINERS = {"grpo": "GRPOTrainer", "rloo": "RLOOTrainer"}


class Sampled(NamedTuple):
    trainer: Any
    batch: dict[str, Any]
    generated: list[list[int]]
    """The ids of each turn of a completion that the model wrote."""


@pytest.fixture
def build(cache: Path, tmp_path: Path, compose_config: Callable[..., Any]) -> Callable[..., Any]:
    from alignzoo.train.inputs import prepare_run

    def trainer(*words: str) -> Any:
        inputs = prepare_run(check(compose_config(*SMALL, *words)))
        made = inputs.build_trainer(inputs.make_trl_config(tmp_path), inputs.load_model())
        made.model.train()
        return made

    return trainer


@pytest.fixture
def sample(build: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Sampled]:
    def sampled(*words: str) -> Sampled:
        trainer, generated = build(*words), []
        original = type(trainer)._generate_single_turn

        def note(self: Any, *args: Any, **more: Any) -> Any:
            found = original(self, *args, **more)
            generated.extend(found[0])
            return found

        monkeypatch.setattr(type(trainer), "_generate_single_turn", note)
        rows = [dict(trainer.train_dataset[place]) for place in PLACES]
        torch.manual_seed(0)
        return Sampled(trainer, trainer._generate_and_score_completions(rows), generated)

    return sampled


def slope(sampled: Sampled, method: str, monkeypatch: pytest.MonkeyPatch) -> Tensor:
    """Return the gradient of the loss by each token's log-probability, (rows, tokens), of TRL's own forward pass."""
    import trl

    base, seen = getattr(trl, TRAINERS[method]), []
    original = base._get_per_token_logps_and_entropies

    def keep(self: Any, *args: Any, **kwargs: Any) -> Any:
        found = original(self, *args, **kwargs)
        found[0].retain_grad()
        seen.append(found[0])
        return found

    monkeypatch.setattr(base, "_get_per_token_logps_and_entropies", keep)
    sampled.trainer.current_gradient_accumulation_steps = 1
    sampled.trainer._compute_loss(sampled.trainer.model, sampled.batch).backward()
    assert seen[-1].grad is not None
    return seen[-1].grad


@pytest.mark.parametrize("method", TRAINERS)
def test_what_the_environment_wrote_does_not_reach_the_loss(
    sample: Callable[..., Sampled], monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    sampled = sample(f"method={method}", "method.beta=0")
    batch = sampled.batch | {"advantages": torch.linspace(1, 2, 8), "num_items_in_batch": torch.tensor(8)}
    written = (batch["tool_mask"] * batch["completion_mask"]).bool()
    by_tools = (batch["completion_mask"] * (1 - batch["tool_mask"])).bool()
    assert int(written.sum()) == sum(map(len, sampled.generated)), "all that the model wrote, and nothing else"
    names = sampled.trainer.processing_class.convert_ids_to_tokens
    for row in range(8):
        tokens = names(batch["completion_ids"][row].tolist())
        marks = by_tools[row].tolist()
        for tool, run_of in itertools.groupby(zip(tokens, marks, strict=True), key=lambda pair: pair[1]):
            words = [word for word, _ in run_of]
            assert not tool or (words[0], words[-1]) == ("tool", "assistant")
    assert by_tools.sum() > 20
    found = slope(sampled._replace(batch=batch), method, monkeypatch)
    assert (found[by_tools] == 0).all()
    assert (found[written] < 0).all()
    per_token = found / batch["advantages"][:, None]
    assert per_token[written].std() < 1e-6 * per_token[written].abs().mean(), "each token by its row's advantage"


def test_the_penalty_of_rloo_holds_what_the_policy_wrote_alone(sample: Callable[..., Sampled]) -> None:
    """Advantages of rewards 0 are those of the KL, which plain forward passes give too."""
    trainer = sample("method=rloo", "method.beta=1", "environment.weight=0").trainer
    with torch.no_grad():
        for weight in trainer.model.parameters():
            weight += 0.05 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(weight.shape[0]))
    batch = trainer._generate_and_score_completions([dict(trainer.train_dataset[place]) for place in PLACES])
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], 1)
    mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], 1)
    width = batch["completion_ids"].shape[1]
    with torch.no_grad():
        both = [model(input_ids=ids, attention_mask=mask).logits for model in (trainer.model, trainer.ref_model)]
    policy, reference = (
        logits[:, -width - 1 : -1].log_softmax(-1).gather(-1, batch["completion_ids"][..., None])[..., 0]
        for logits in both
    )
    written = batch["tool_mask"] * batch["completion_mask"]
    kl = ((policy - reference) * written).sum(1)
    others = (kl.view(2, 4).sum(1, keepdim=True) - kl.view(2, 4)) / 3
    assert batch["advantages"] == pytest.approx((others.flatten() - kl), abs=1e-4)
    logged = trainer._metrics["train"]["kl"][-1]
    assert logged == pytest.approx(float(kl.sum() / written.sum()), abs=1e-5)


@pytest.mark.parametrize("method", TRAINERS)
def test_a_calculator_answers_in_the_middle_of_a_completion(
    sample: Callable[..., Sampled], monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """The tiny model calls nothing by itself: its first turn is put into its mouth."""
    words = (f"method={method}", "model=tiny", "dataset=sums", "environment=none", "environment.turn_tokens=8")
    import trl

    call = '<tool_call>\n{"name": "calculator", "arguments": {"expression": "3 + 4 * 5"}}\n</tool_call><|im_end|>'
    base = getattr(trl, TRAINERS[method])
    original, turns = base._generate_single_turn, []

    def speak(self: Any, prompt_ids: Any, *args: Any, **more: Any) -> Any:
        turns.append(len(prompt_ids))
        if len(turns) > 1:
            return original(self, prompt_ids, *args, **more)
        ids = [self.processing_class(call)["input_ids"] for _ in prompt_ids]
        return (ids, None) if method == "grpo" else ids

    monkeypatch.setattr(base, "_generate_single_turn", speak)
    sampled = sample(*words, "tools=calculator", "method.max_completion_length=160")
    assert turns[:2] == [8, 8]
    decode = sampled.trainer.processing_class.decode
    hidden = sampled.batch["completion_mask"] * (1 - sampled.batch["tool_mask"])
    for row in range(8):
        assert decode(sampled.batch["completion_ids"][row][hidden[row].bool()]).split("\n")[2] == "23<|im_end|>"


def test_a_method_whose_trainer_takes_no_tools_says_which_do(compose_config: Callable[..., Any]) -> None:
    with pytest.raises(UserError, match=r"^environment=treasure: method=gmpo samples without tools\. .*: .*grpo.*rloo"):
        check(compose_config("experiment=treasure", "method=gmpo", "method.beta=0"))
    with pytest.raises(UserError, match=r"^tools=calculator: method=ppo samples without tools"):
        check(compose_config("method=ppo", "dataset=sums", "tools=calculator"))
    with pytest.raises(UserError, match=r"^environment=treasure: method=reward trains a reward model"):
        check(compose_config("method=reward", "environment=treasure"))
    with pytest.raises(UserError, match=r"^method.use_vllm=true: rloo calls tools without vLLM only"):
        check(compose_config("experiment=treasure", "method=rloo", "method.use_vllm=true"))


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["environment=tresure"], r"environment=tresure|environment/tresure"),
        (["environment.moves=0"], r"environment\.moves=0 must be at least 1"),
        (["+environment.steps=3"], r"environment: .*steps"),
        (["environment.turns=0"], r"environment\.turns=0 must be at least 1"),
        (["environment.weight=much"], r"environment\.weight=much takes a number"),
        (["dataset.chat=false"], r"plain text: set dataset\.chat=true"),
        (["dataset.columns={treasure: gold_field}"], r"environment=treasure reads the column treasure, which"),
    ],
)
def test_a_mistake_is_one_line(
    tmp_path: Path, cache: Path, capfd: pytest.CaptureFixture[str], words: list[str], reason: str
) -> None:
    done = run(tmp_path / "run", *SMALL, "train.max_steps=1", *words)
    assert done.code == 1
    said = done.out + done.err + capfd.readouterr().err
    assert re.search(reason, said), said
    assert "Traceback" not in said
