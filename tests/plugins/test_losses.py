"""The loss that each plugin's trainer minimises is its paper's formula, recomputed here from plain log-softmax."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from omegaconf import DictConfig
from torch import Tensor
from torch.nn.functional import log_softmax, logsigmoid
from transformers import AutoModelForCausalLM, PreTrainedModel

from alignzoo import Reward, UserError
from alignzoo.config.check import check
from alignzoo.data.convert import convert
from alignzoo.data.prepare import prepare
from alignzoo.data.tokenise import Tokeniser
from alignzoo.evaluate.rewards import wrap_reward
from alignzoo.models.load import load_policy, load_tokenizer
from alignzoo.plugin.registry import registry
from alignzoo.system.libraries import silence_libraries
from alignzoo.train.trainer import build_trainer
from alignzoo.train.trl_config import make_trl_config

Build = Callable[..., Any]

PAIRS = [
    ("What is salt?", "A mineral.", "Salt is a thing that people put on food, and in water too."),
    ("Name a colour.", "Red, for one.", "No."),
    ("Why does it rain?", "Clouds cool, and drops fall.", "It rains because it does."),
    ("Who wrote Hamlet?", "Shakespeare did.", "A man of letters wrote that play, long ago, in London."),
]

#: Reference log-probabilities from before the training, and from the reference model at each step.
REFERENCES = ("true", "false")


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("data") / "pairs.jsonl"
    lines = [{"prompt": p, "chosen": c, "rejected": r} for p, c, r in PAIRS]
    file.write_text("\n".join(json.dumps(line) for line in lines))
    return file


@pytest.fixture
def build(start: Path, pairs: Path, tmp_path: Path, compose_config: Callable[..., DictConfig]) -> Build:
    """Build a method's real trainer on all of PAIRS, so that one batch holds every row."""

    def trainer(method: str, *overrides: str, rewards: tuple[Any, ...] = ()) -> Any:
        batch = 2 * len(PAIRS) if method == "kto" else len(PAIRS)
        cfg = compose_config(
            *(f"method={method}", "model=tiny", "dataset=local", f"dataset.path={pairs}", "dataset.chat=true"),
            *("dataset.heldout.fraction=0", f"train.per_device_batch_size={batch}", f"train.global_batch_size={batch}"),
            *overrides,
        )
        checked = check(cfg)
        silence_libraries(cfg.telemetry)
        tokenizer = load_tokenizer(start, cfg.model)
        data = prepare(cfg, Tokeniser(tokenizer, []))
        trainer_ = build_trainer(
            checked,
            make_trl_config(checked, tmp_path),
            load_policy(start, cfg, "fp32"),
            tokenizer,
            convert(data.train, data.kind, checked.method.data, batch, cfg.seed),
            rewards=list(rewards),
        )
        return trainer_

    return trainer


def move(trainer: Any, size: float = 0.02) -> PreTrainedModel:
    """Take the policy away from the reference; return a plain copy of it, without TRL's patched forward."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in trainer.model.parameters():
            if weight.requires_grad:
                weight += size * torch.randn(weight.shape, generator=generator)
    return to_plain(trainer)


def to_plain(trainer: Any) -> PreTrainedModel:
    model = copy.deepcopy(trainer.model)
    model = model.merge_and_unload() if hasattr(model, "merge_and_unload") else model
    fresh = AutoModelForCausalLM.from_config(model.config, dtype=torch.float32)
    fresh.load_state_dict(model.state_dict())
    return fresh.eval()


def start_model(folder: Path) -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def token_log_probs(model: PreTrainedModel, prompt: list[int], answer: list[int]) -> Tensor:
    """Return log p(token | what precedes it) of each answer token, from one sequence without padding."""
    ids = torch.tensor([prompt + answer])
    scores = log_softmax(model(input_ids=ids).logits[0, :-1], dim=-1)
    return scores.gather(-1, ids[0, 1:, None])[len(prompt) - 1 :, 0]


def log_ratios(policy: PreTrainedModel, reference: PreTrainedModel, rows: Dataset, answer: str) -> list[Tensor]:
    """Return the log-ratio of each answer token, row by row."""
    with torch.no_grad():
        return [
            token_log_probs(policy, row["prompt_ids"], row[answer])
            - token_log_probs(reference, row["prompt_ids"], row[answer])
            for row in rows
        ]


def batch_loss(trainer: Any) -> float:
    (batch,) = trainer.get_train_dataloader()
    return trainer.compute_loss(trainer.model, batch).item()


def close(value: float | Tensor) -> Any:
    return pytest.approx(torch.as_tensor(value).item(), rel=1e-5, abs=1e-5)


def margins(trainer: Any, start: Path) -> Tensor:
    """Return the chosen log-ratio less the rejected one, in nats, pair by pair, after moving the policy."""
    policy, reference, rows = move(trainer), start_model(start), trainer.train_dataset
    chosen, rejected = (log_ratios(policy, reference, rows, name) for name in ("chosen_ids", "rejected_ids"))
    margin = torch.stack([c.sum() - r.sum() for c, r in zip(chosen, rejected, strict=True)])
    assert margin.abs().min() > 0.1  # otherwise any formula gives log 2
    return margin


@pytest.mark.parametrize("precomputed", REFERENCES)
@pytest.mark.parametrize("beta", [0.1, 0.5])
def test_dpo(build: Build, start: Path, beta: float, precomputed: str) -> None:
    """Rafailov et al., 2023, equation 7."""
    trainer = build("dpo", f"method.beta={beta}", f"method.precompute_ref_log_probs={precomputed}")
    expected = -logsigmoid(beta * margins(trainer, start)).mean()
    assert batch_loss(trainer) == close(expected)


@pytest.mark.parametrize("precomputed", REFERENCES)
def test_dpo_with_an_adapter_compares_with_the_frozen_model(build: Build, start: Path, precomputed: str) -> None:
    trainer = build("dpo", "method.beta=0.1", "peft=lora", f"method.precompute_ref_log_probs={precomputed}")
    expected = -logsigmoid(0.1 * margins(trainer, start)).mean()
    assert batch_loss(trainer) == close(expected)


def test_robust_dpo(build: Build, start: Path) -> None:
    """Chowdhury et al., 2024, "Provably Robust DPO", equation 12."""
    trainer = build("dpo", "method.beta=0.1", "method.loss_type=[robust]", "+method.label_smoothing=0.2")
    margin = 0.1 * margins(trainer, start)
    expected = -(0.8 * logsigmoid(margin) - 0.2 * logsigmoid(-margin)).mean() / (1 - 2 * 0.2)
    assert batch_loss(trainer) == close(expected)


def test_label_smoothing_that_trl_ignores_is_refused(build: Build) -> None:
    """TRL 1.16 reads it in robust, exo_pair and aot only; conservative DPO (Mitchell, 2023) would be plain DPO."""
    with pytest.raises(UserError, match=r"method\.label_smoothing does nothing to the losses sigmoid in TRL"):
        build("dpo", "+method.label_smoothing=0.2")


@pytest.mark.parametrize(
    ("loss", "smoothing"), [("[robust]", 0.5), ("[robust]", 0.7), ("[sigmoid,sft]", 0.2), ("[hinge]", 0.1)]
)
def test_label_smoothing_that_cannot_be_meant_is_refused(
    compose_config: Callable[..., DictConfig], loss: str, smoothing: float
) -> None:
    """Robust DPO divides by 1 - 2 x 0.5, and from there on prefers the rejected answer; TRL only warns."""
    with pytest.raises(UserError, match="label_smoothing"):
        check(compose_config(f"method.loss_type={loss}", f"+method.label_smoothing={smoothing}"))


@pytest.mark.parametrize("precomputed", REFERENCES)
@pytest.mark.parametrize("beta", [0.1, 0.5])
def test_ipo(build: Build, start: Path, beta: float, precomputed: str) -> None:
    """Azar et al., 2023, equation 17, with log-ratios averaged over the answer's tokens."""
    trainer = build("ipo", f"method.beta={beta}", f"method.precompute_ref_log_probs={precomputed}")
    policy, reference, rows = move(trainer), start_model(start), trainer.train_dataset
    chosen, rejected = (log_ratios(policy, reference, rows, name) for name in ("chosen_ids", "rejected_ids"))
    margin = torch.stack([c.mean() - r.mean() for c, r in zip(chosen, rejected, strict=True)])
    assert batch_loss(trainer) == close(((margin - 1 / (2 * beta)) ** 2).mean())


def climb(trainer: Any, size: float) -> PreTrainedModel:
    """Move the policy along the gradient of its KL answers' likelihood: the KL estimate takes the sign of ``size``."""
    model = to_plain(trainer)
    rows = [(row["prompt_ids"], row["KL_completion_ids"]) for row in trainer.train_dataset]
    sum(token_log_probs(model, *row).sum() for row in rows).backward()
    gradients = {name: weight.grad for name, weight in model.named_parameters()}
    with torch.no_grad():
        for name, weight in trainer.model.named_parameters():
            weight += size * gradients[name]
    return to_plain(trainer)


@pytest.mark.parametrize("precomputed", REFERENCES)
@pytest.mark.parametrize(("size", "good", "bad"), [(1e-3, 1.0, 1.0), (1e-3, 1.5, 0.25), (-1e-3, 1.5, 0.25)])
def test_kto(build: Build, start: Path, size: float, good: float, bad: float, precomputed: str) -> None:
    """Ethayarajh et al., 2024, equations 7 and 8; KL on answers of other prompts, clamped at 0."""
    weights = (f"method.desirable_weight={good}", f"method.undesirable_weight={bad}")
    trainer = build("kto", "method.beta=0.3", *weights, f"method.precompute_ref_log_probs={precomputed}")
    policy, reference, rows = climb(trainer, size), start_model(start), trainer.train_dataset
    kl = torch.stack([ratio.sum() for ratio in log_ratios(policy, reference, rows, "KL_completion_ids")]).mean()
    assert kl * math.copysign(1, size) > 0.5
    losses = [
        good * (1 - torch.sigmoid(0.3 * (ratio.sum() - kl.clamp(min=0))))
        if row["label"]
        else bad * (1 - torch.sigmoid(0.3 * (kl.clamp(min=0) - ratio.sum())))
        for row, ratio in zip(rows, log_ratios(policy, reference, rows, "completion_ids"), strict=True)
    ]
    assert batch_loss(trainer) == close(torch.stack(losses).mean())


def test_kto_estimates_kl_on_answers_of_other_prompts(build: Build) -> None:
    rows = build("kto").train_dataset
    assert len(rows) == 2 * len(PAIRS)
    own: dict[tuple[int, ...], set[tuple[int, ...]]] = {}
    for row in rows:
        own.setdefault(tuple(row["prompt_ids"]), set()).add(tuple(row["completion_ids"]))
    assert all(tuple(row["KL_completion_ids"]) not in own[tuple(row["prompt_ids"])] for row in rows)


def log_odds(model: PreTrainedModel, row: dict[str, Any], answer: str) -> Tensor:
    """Return log(p / (1 - p)) of the length-normalised probability."""
    mean = token_log_probs(model, row["prompt_ids"], row[answer]).mean().double()
    return mean - torch.log1p(-mean.exp())


def test_orpo_odds_ratio(build: Build) -> None:
    """Hong et al., 2024, equations 6 and 7: what beta adds to the likelihood."""
    with_odds, without = build("orpo", "method.beta=0.5"), build("orpo", "method.beta=0")
    policy = move(with_odds)
    move(without)
    with torch.no_grad():
        ratios = [
            log_odds(policy, r, "chosen_ids") - log_odds(policy, r, "rejected_ids") for r in without.train_dataset
        ]
    expected = -0.5 * logsigmoid(torch.stack(ratios)).mean()
    assert batch_loss(with_odds) - batch_loss(without) == close(expected)


def test_orpo_likelihood(build: Build) -> None:
    """Of prompt and chosen answer, as the authors' code has it; each token weighs the same. Beta 0 leaves it alone."""
    trainer = build("orpo", "method.beta=0")
    policy, rows = move(trainer), trainer.train_dataset
    with torch.no_grad():
        tokens = [token_log_probs(policy, r["prompt_ids"][:1], r["prompt_ids"][1:] + r["chosen_ids"]) for r in rows]
    assert batch_loss(trainer) == close(-torch.cat(tokens).mean())


def test_sft(build: Build) -> None:
    """The mean over all answer tokens of the batch; of pairs the chosen answers, and no prompt."""
    trainer = build("sft")
    policy, tokens = move(trainer), []
    for row in trainer.train_dataset:
        first = next(i for i, label in enumerate(row["labels"]) if label != -100)
        assert row["labels"][first:] == row["input_ids"][first:]
        tokens.append(token_log_probs(policy, row["input_ids"][:first], row["input_ids"][first:]))
    assert len(tokens) == len(PAIRS)
    assert batch_loss(trainer) == close(-torch.cat(tokens).mean())


class Letters(Reward):
    """The number of letters of an answer; remembers what it gave."""

    name = "letters"

    def __init__(self) -> None:
        self.given: dict[str, float] = {}

    def __call__(self, prompts: list[str], answers: list[str], **columns: list[Any]) -> list[float]:
        self.given |= {answer: float(len(answer)) for answer in answers}
        return [float(len(answer)) for answer in answers]


def sampled(build: Build, *overrides: str) -> tuple[Any, dict[str, Tensor], PreTrainedModel, Tensor]:
    """Return a GRPO trainer, a batch of one group from its moved policy, a plain policy, and the group's rewards."""
    reward = Letters()
    group = ("reward=length", "method.beta=0.2", "method.num_generations=4", "method.max_completion_length=24")
    trainer = build("grpo", *group, *overrides, rewards=(wrap_reward(reward, []),))
    with torch.no_grad():  # answers of several lengths: one token in some dozens is EOS
        trainer.model.get_input_embeddings().weight[trainer.processing_class.eos_token_id] *= 3
    policy = move(trainer)
    trainer.current_gradient_accumulation_steps = 1  # the training loop sets it
    batch = trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))
    texts = [
        trainer.processing_class.decode(ids[mask.bool()], skip_special_tokens=True)
        for ids, mask in zip(batch["completion_ids"], batch["completion_mask"], strict=True)
    ]
    rewards = torch.tensor([reward.given[text] for text in texts])
    assert rewards.std() > 0.5
    lengths = batch["completion_mask"].sum(-1)
    assert lengths.min() < lengths.max()
    return trainer, batch, policy, rewards


def test_grpo_advantages(build: Build) -> None:
    """Shao et al., 2024, section 4.1.2: each reward less its group's mean, over its standard deviation."""
    _, batch, _, rewards = sampled(build)
    expected = (rewards - rewards.mean()) / (rewards.std() + 1e-4)  # TRL's guard against a division by 0
    assert torch.allclose(batch["advantages"], expected, atol=1e-5)


@pytest.mark.parametrize(("loss_type", "unbiased"), [("dapo", "true"), ("dapo", "false"), ("grpo", "false")])
def test_grpo_first_step(build: Build, start: Path, loss_type: str, unbiased: str) -> None:
    """Shao et al., 2024, equations 3 and 4, in value and gradient.

    ``unbiased``, TRL's default, is no part of the paper: the KL term is weighed by the ratio too (DeepSeek-V3.2,
    section 3.1). ``dapo`` averages over all tokens, ``grpo`` over each answer's first.
    """
    trainer, batch, policy, _ = sampled(
        build, f"method.loss_type={loss_type}", f"+method.use_bias_correction_kl={unbiased}"
    )
    reference, losses = start_model(start), []
    for row in range(len(batch["advantages"])):
        prompt = batch["prompt_ids"][row][batch["prompt_mask"][row].bool()].tolist()
        answer = batch["completion_ids"][row][batch["completion_mask"][row].bool()].tolist()
        log_probs = token_log_probs(policy, prompt, answer)
        ratio = (log_probs - log_probs.detach()).exp()  # 1 at the first step, yet with the gradient
        apart = token_log_probs(reference, prompt, answer).detach() - log_probs
        kl = (apart.exp() - apart - 1) * (ratio if unbiased == "true" else 1)
        losses.append(-batch["advantages"][row] * ratio + 0.2 * kl)
    expected = torch.cat(losses).mean() if loss_type == "dapo" else torch.stack([loss.mean() for loss in losses]).mean()
    expected.backward()
    loss = trainer.compute_loss(trainer.model, batch)
    loss.backward()
    assert loss.item() == close(expected)
    gradients = {name: weight.grad for name, weight in policy.named_parameters()}
    for name, weight in trainer.model.named_parameters():
        assert torch.allclose(weight.grad, gradients[name], rtol=1e-3, atol=1e-5), name


@pytest.mark.parametrize(
    "overrides",
    [
        *(("dpo", "method.beta=0.5"), ("dpo", "method.precompute_ref_log_probs=false"), ("dpo", "peft=lora")),
        *(("ipo", "method.beta=0.1"), ("ipo", "method.beta=0.4"), ("ipo", "method.precompute_ref_log_probs=false")),
        *(("kto",), ("kto", "method.beta=0.3"), ("kto", "method.precompute_ref_log_probs=false"), ("kto", "peft=lora")),
    ],
    ids=" ".join,
)
def test_first_loss_is_what_the_first_step_logs(
    build: Build, compose_config: Callable[..., DictConfig], overrides: tuple[str, ...]
) -> None:
    """Policy and reference being equal, what a method declares is what its trainer logs."""
    trainer = build(*overrides, "train.max_steps=1")
    trainer.train()
    expected = registry().method(overrides[0]).first_loss(compose_config(f"method={overrides[0]}", *overrides[1:]))
    assert expected is not None
    assert trainer.state.log_history[0]["loss"] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    "overrides",
    [
        *(
            ("sft",),
            ("orpo",),
            ("grpo",),
            ("dpo", "method.loss_type=[hinge]"),
            *(("dpo", "method.loss_type=[sigmoid,sft]"), ("dpo", "+method.loss_weights=[0.5]")),
            *(("dpo", "+method.use_weighting=true"), ("ipo", "+method.use_weighting=true")),
            ("ipo", "+method.loss_weights=[0.5]"),
        ),
        *(("kto", "method.desirable_weight=1.5"), ("kto", "method.undesirable_weight=2")),
    ],
    ids=" ".join,
)
def test_no_first_loss_where_none_follows(
    compose_config: Callable[..., DictConfig], overrides: tuple[str, ...]
) -> None:
    cfg = compose_config(f"method={overrides[0]}", *overrides[1:])
    assert registry().method(overrides[0]).first_loss(cfg) is None
