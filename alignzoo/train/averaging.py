"""Averages the trained weights over the steps of a training, by TRL's BEMA callback (``average.rule=bema``)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from trl import BEMACallback

from alignzoo.config.plain import to_plain
from alignzoo.system.errors import UserError

if TYPE_CHECKING:
    from omegaconf import DictConfig


class WeightAverage(BEMACallback):
    """TRL's bias-corrected moving average (BEMA: Block and Zhang, 2025), whose result the run keeps.

    TRL's own averages all weights of a copy of the model, so that it takes no adapter, saves the average beside the
    trained model, and starts afresh when a run is resumed. Here the weights that train are averaged, they take the
    average's place at the end, and the state is in each checkpoint.
    """

    def __init__(self, cfg: DictConfig) -> None:
        """``cfg``: the group ``average``, whose keys but ``rule`` are TRL's."""
        super().__init__(**{key: value for key, value in to_plain(cfg).items() if key != "rule"})

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any, **kwargs: Any) -> None:
        """Begin the average with the start model's weights.

        Raises:
            UserError: the training ends before the first average, whose place the start model's weights would take.
        """
        first = self.update_after + self.update_freq
        if state.max_steps < first:
            raise UserError(
                f"average.rule=bema averages at step {first} first, and this training ends at step {state.max_steps}: "
                "lower average.update_freq or average.update_after."
            )
        trained = [weight for weight in model.parameters() if weight.requires_grad]
        self.thetat_params = trained
        self.theta0_params, self.ema_params, average = ([self._copy(weight) for weight in trained] for _ in range(3))
        self.running_model = torch.nn.ParameterList(average).requires_grad_(False)

    def _copy(self, weight: torch.Tensor) -> torch.Tensor:
        return weight.detach().clone().to(self.device)

    @torch.no_grad()
    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Put the average in the place of the trained weights, unless the training was stopped before the first."""
        if state.global_step >= self.update_after + self.update_freq:
            for weight, average in zip(self.thetat_params, self.running_model, strict=True):
                weight.copy_(average)

    def state_dict(self) -> dict[str, list[torch.Tensor]]:
        """Return what a checkpoint holds of it: the weights at the beginning, the moving average, and the corrected."""
        return {"start": self.theta0_params, "ema": self.ema_params, "average": [*self.running_model]}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, list[torch.Tensor]]) -> None:
        """Take over what :meth:`state_dict` returned; called once the training has begun."""
        own = self.state_dict()
        for name, tensors in state.items():
            for mine, saved in zip(own[name], tensors, strict=True):
                mine.copy_(saved)


def make_weight_average(cfg: DictConfig) -> list[WeightAverage]:
    """Return the callback that ``average.rule`` asks for, if any."""
    return [] if cfg.rule == "none" else [WeightAverage(cfg)]
