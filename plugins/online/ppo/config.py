"""The settings of a PPO run: TRL's for sampling and scoring answers, and PPO's own."""

from __future__ import annotations

from dataclasses import dataclass, field

from trl import RLOOConfig


@dataclass
class PPOConfig(RLOOConfig):
    """TRL's :class:`trl.RLOOConfig` with the fields of PPO; ``method.*`` and ``train.*`` fill it.

    Kept from TRL: ``beta`` (weight of the KL penalty), ``epsilon`` (clip range of the ratio), ``num_iterations`` (PPO
    epochs over a batch of rollouts), ``generation_batch_size`` (answers in such a batch). The further names are those
    of the PPO trainer that TRL had until 1.13.
    """

    num_generations: int | None = field(default=1, metadata={"help": "Answers sampled for each prompt."})
    generation_batch_size: int | None = field(
        default=8, metadata={"help": "Answers in a batch of rollouts, cut into mini-batches of one update each."}
    )
    num_iterations: int = field(default=4, metadata={"help": "Times that each batch of rollouts is trained on."})
    normalize_advantages: bool = field(
        default=True, metadata={"help": "Whiten the advantages over the tokens of a batch of rollouts."}
    )
    gamma: float = field(default=1.0, metadata={"help": "Discount of a reward one token later."})
    lam: float = field(default=0.95, metadata={"help": "GAE's lambda: 0 trusts the values, 1 the rewards."})
    vf_coef: float = field(default=0.1, metadata={"help": "Weight of the value loss."})
    cliprange_value: float = field(default=0.2, metadata={"help": "How far an update may move a value in its loss."})
    value_learning_rate: float = field(default=1e-4, metadata={"help": "Peak learning rate of the value head."})
    missing_eos_penalty: float = field(default=1.0, metadata={"help": "Taken from the score of an unfinished answer."})
    kl_estimator: str = field(default="k1", metadata={"help": "k1, k2 or k3, as Schulman (2020) calls them."})

    def __post_init__(self) -> None:
        """Let TRL derive the rest.

        Raises:
            ValueError: a value that TRL refuses, an unknown estimator, or rollouts of no size.
        """
        if self.kl_estimator not in ("k1", "k2", "k3"):
            raise ValueError(f"kl_estimator={self.kl_estimator} must be one of k1, k2, k3")
        if not self.generation_batch_size:
            raise ValueError("generation_batch_size must say how many answers are sampled at a time")
        asked, self.num_generations = self.num_generations, self.generation_batch_size
        super().__post_init__()  # refuses groups of one answer, which RLOO could not compare and PPO does not
        self.num_generations = asked
