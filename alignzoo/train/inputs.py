"""Prepares the inputs of runs, checks and benchmarks: start model, tokenizer, rows, and plan."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alignzoo.config.judged import choose_win_rate
from alignzoo.config.plain import to_plain
from alignzoo.data.convert import with_pairs
from alignzoo.data.prepare import Prepared
from alignzoo.data.prompts import read_template_kwargs
from alignzoo.data.sources import MEASURED
from alignzoo.data.tokenise import Tokeniser
from alignzoo.evaluate.harness import load_tasks
from alignzoo.evaluate.play import make_player
from alignzoo.evaluate.reward_yardstick import RewardYardstick
from alignzoo.evaluate.rewards import Rewards, build_configured_rewards
from alignzoo.evaluate.task_yardstick import TaskYardstick
from alignzoo.evaluate.toolbox import Toolbox, build_toolbox, uses_tools
from alignzoo.evaluate.yardstick import Yardstick
from alignzoo.models import load, reward_model, start_model, teacher
from alignzoo.models.baseline import find_baseline
from alignzoo.models.calls import prepare_calls
from alignzoo.models.embeddings import refuse_ids_beyond
from alignzoo.models.pretrained import RemoteCode
from alignzoo.plan.budget import Plan, make_plan, measure_mean_length
from alignzoo.plugin.method import DataFormat, ModelKind, find_tools_trainer
from alignzoo.runs.folder import TASKS
from alignzoo.system import ranks
from alignzoo.system.cache import explain_full_cache
from alignzoo.system.libraries import silence_libraries
from alignzoo.train.hardware import check_hardware
from alignzoo.train.processes import join_processes
from alignzoo.train.rows import convert_rows, prepare_rows
from alignzoo.train.trainer import build_trainer
from alignzoo.train.trl_config import limit_turns, make_trl_config

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from datasets import Dataset
    from omegaconf import DictConfig
    from transformers import PreTrainedModel, PreTrainedTokenizerBase, Trainer

    from alignzoo.config.checked import Checked
    from alignzoo.evaluate.any_yardstick import AnyYardstick
    from alignzoo.evaluate.rewards import RewardFunction
    from alignzoo.plugin.method import Method


#: The side that a study's phase does not measure: tuning opens no test row, and the test is about its rows alone.
CLOSED = {"tune": "heldout", "test": "validation"}


@dataclass(frozen=True)
class RunInputs:
    """The inputs of a run, known before a weight is loaded."""

    checked: Checked
    start: Path
    """The start model's folder."""

    tokenizer: PreTrainedTokenizerBase
    eos_ids: list[int]
    """Token ids that end a completion."""

    data: Prepared
    rows: Dataset
    """The training rows in the method's format."""

    plan: Plan
    against: Path
    """The folder of the model that the result is measured against: the start model, or ``evaluate.against``."""

    teacher_folder: Path | None = None

    @property
    def cfg(self) -> DictConfig:
        """The run's configuration."""
        return self.checked.cfg

    @property
    def method(self) -> type[Method]:
        """The method that trains."""
        return self.checked.method

    @property
    def trains_reward_model(self) -> bool:
        """Whether a reward model comes out, and no policy."""
        return self.method.trains is ModelKind.REWARD_MODEL

    @cached_property
    def rewards(self) -> Rewards:
        """The group ``reward``, for training and measuring.

        Raises:
            UserError: as :func:`alignzoo.evaluate.rewards.build_configured_rewards`.
        """
        return build_configured_rewards(self.cfg, self.method, self.rows, self.data.heldout, self.eos_ids)

    @cached_property
    def toolbox(self) -> Toolbox | None:
        """The groups ``tools`` and ``environment``, for training and measuring; None where both are empty."""
        return build_toolbox(self.cfg, self.data.train)

    @property
    def template_kwargs(self) -> dict[str, Any]:
        """What the chat template of prompts is given beside the messages."""
        return {**to_plain(self.cfg.method.get("chat_template_kwargs") or {}), **read_template_kwargs(self.data.train)}

    @cached_property
    def teacher(self) -> PreTrainedModel | None:
        """The teacher, for training and measuring; None where there is none."""
        return self.teacher_folder and teacher.load_teacher(self.teacher_folder, self.checked, self.start)

    def make_trl_config(self, folder: Path) -> Any:
        """Return the method's TRL config for a run in ``folder``."""
        weights = self.rewards.weights
        more: dict[str, Any] = {"reward_weights": weights} if self.method.uses_rewards else {}
        if self.method.data is DataFormat.PROMPTS and read_template_kwargs(self.data.train):
            more["chat_template_kwargs"] = self.template_kwargs
        if self.toolbox and find_tools_trainer(self.method):
            more |= limit_turns(self.checked, self.toolbox)
        return make_trl_config(self.checked, folder, self.plan, **more)

    def load_model(self, folder: Path | None = None) -> PreTrainedModel:
        """Return the start model, or the one in ``folder``, as the method trains it."""
        folder, precision = folder or self.start, self.checked.precision
        if self.trains_reward_model:
            return reward_model.load_scorer(folder, self.tokenizer, self.eos_ids, self.cfg, precision)
        return load.load_policy(folder, self.cfg, precision)

    def build_trainer(
        self,
        args: Any,
        model: PreTrainedModel,
        callbacks: Sequence[Any] = (),
        rewards: Sequence[RewardFunction] | None = None,
    ) -> Any:
        """Return the trainer of ``model``, with shared prompt prefixes; ``args``: from :meth:`make_trl_config`.

        ``rewards``: others to learn from than the configured ones.
        """
        from alignzoo.models.shared_prefix.patch import share_prefixes

        share_prefixes(self.cfg, model)
        heldout, selecting = None, self.data.validation or self.data.heldout
        if args.eval_strategy != "no" and len(selecting):  # asked for by +train.eval_strategy
            heldout = convert_rows(self.checked, selecting, self.data, measured=True)
        rewards = self.rewards.functions if rewards is None else rewards
        with explain_full_cache("the trainer's rows"):
            given = args, model, self.tokenizer, self.rows, heldout, rewards, callbacks, self.teacher, self.toolbox
            return build_trainer(self.checked, *given)

    def make_yardsticks(self) -> dict[str, AnyYardstick]:
        """Return the yardsticks: of the held-out rows and, where there are any, of the validation rows and of tasks."""
        closed = CLOSED.get(self.cfg.study.phase) if "study" in self.cfg else None
        sides = MEASURED if self.data.validation and closed != "validation" else MEASURED[:1]
        found: dict[str, AnyYardstick] = {side: self.make_yardstick(side, opens=side != closed) for side in sides}
        return found | ({TASKS: self.tasks} if self.tasks and closed != "heldout" else {})

    @cached_property
    def tasks(self) -> TaskYardstick | None:
        """The benchmark tasks of ``evaluate.tasks`` with their data; None where there are none.

        Raises:
            UserError: as :func:`alignzoo.evaluate.harness.load_tasks`.
        """
        cfg = self.cfg.evaluate
        if not (cfg.tasks and cfg.enabled):
            return None
        with ranks.go_first(ranks.local_rank() == 0):
            tasks = load_tasks(to_plain(cfg.tasks))
        template_arguments = to_plain(self.cfg.method.get("chat_template_kwargs"))
        return TaskYardstick(cfg, tasks, self.tokenizer, template_arguments)

    def make_yardstick(self, side: str = "heldout", opens: bool = True) -> AnyYardstick:
        """Return the yardstick of a side, its rows as pairs where they can be paired; ``opens``: false takes none."""
        rows = with_pairs(getattr(self.data, side), self.data.measured_kind)
        rows = rows if opens else rows.select(range(0))
        if self.trains_reward_model:
            return RewardYardstick(self.cfg.evaluate, rows, self.tokenizer)
        from alignzoo.models.shared_prefix.patch import prefixes_shared

        cfg, score = self.cfg, self.rewards.score if self.rewards.functions else None
        sharing, wins, folder = partial(prefixes_shared, cfg), choose_win_rate(cfg.judge.name), self.teacher_folder
        taught = (self.teacher, start_model.identity(folder)) if folder else None
        player = make_player(self.toolbox, cfg.evaluate, self.tokenizer, self.eos_ids, self.template_kwargs)
        return Yardstick(cfg.evaluate, rows, self.tokenizer, self.eos_ids, score, sharing, wins, taught, player)

    def read_trained_model(self, trainer: Trainer, folder: Path) -> Any:
        """Return the whole trained model; read from ``folder`` where processes hold a share of each weight."""
        if not (trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled):
            return trainer.model
        ranks.wait()
        with ranks.go_first(ranks.rank() == 0):
            model = self._load_saved(folder / "model")
            if ranks.rank() == 0:
                model.save_pretrained(folder / "model")  # as without shards, which save tied weights twice
        return model

    def _load_saved(self, folder: Path) -> Any:
        device = self.checked.device
        if self.trains_reward_model:
            return self.load_model(folder).to(device).eval()
        return load.load_trained(folder, self.start, self.cfg, device, self.checked.precision)[0]

    def place_baseline(self, model: PreTrainedModel) -> Any:
        """Return the model to compare with; ``model`` is the start model, which is loaded already."""
        return (model if self.against == self.start else self.load_model(self.against)).to(self.checked.device)

    def make_baseline_loader(self) -> Callable[[], Any] | None:
        """Return a function that loads the model to compare with; None if it is the trained one without its adapter."""
        if self.checked.adapts and self.against == self.start:
            return None
        return lambda: self.load_model(self.against).to(self.checked.device).eval()


def prepare_run(checked: Checked) -> RunInputs:
    """Return the inputs of a run; downloads and makes what is missing.

    Raises:
        UserError: device, model or data are not what the configuration says.
    """
    cfg, method = checked.cfg, checked.method
    silence_libraries(cfg.telemetry)
    check_hardware(checked)
    join_processes(cfg, checked.device, checked.patience)
    with ranks.go_first(ranks.local_rank() == 0):
        start = start_model.start_folder(cfg.model)
        tokenizer = load.load_tokenizer(start, cfg.model)
        if uses_tools(cfg):
            prepare_calls(tokenizer, cfg.model.name)
        eos_ids = load.read_eos_ids(start, tokenizer)
        data = prepare_rows(cfg, Tokeniser(tokenizer, eos_ids, to_plain(cfg.method.get("chat_template_kwargs"))))
        rows = convert_rows(checked, data.train, data)
        taught = teacher.find_teacher(cfg, tokenizer)
    plan = make_plan(checked, rows, measure_mean_length(data.train, "prompt_ids"))
    against = find_baseline(cfg, start, tokenizer) if method.trains is ModelKind.POLICY else start
    # Where both are one folder, the model is named.
    for folder, what in {against: f"evaluate.against={cfg.evaluate.against}", start: f"model={cfg.model.name}"}.items():
        measured = [data.heldout, data.validation] if data.validation else [data.heldout]
        refuse_ids_beyond(what, folder, RemoteCode.of(cfg.model), tokenizer, [data.train, *measured])
    return RunInputs(checked, start, tokenizer, eos_ids, data, rows, plan, against, taught)
