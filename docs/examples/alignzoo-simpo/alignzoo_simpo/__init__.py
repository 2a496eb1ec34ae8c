"""SimPO: preference optimization with a length-normalised, reference-free reward.

Meng et al., 2024, "SimPO: Simple Preference Optimization with a Reference-Free Reward",
https://arxiv.org/abs/2405.14734, equation 6.
"""

from alignzoo import DataFormat, Method, UserError, hookimpl


class SimPO(Method):
    """Simple Preference Optimization (Meng et al., 2024): a length-normalised reward with a target margin."""

    name = "simpo"
    data = DataFormat.PREFERENCE
    config = "trl.experimental.cpo:CPOConfig"
    trainer = "trl.experimental.cpo:CPOTrainer"
    pinned = {"loss_type": "simpo", "cpo_alpha": 0.0, "remove_unused_columns": False}

    @classmethod
    def check(cls, cfg):
        """Refuse a beta that turns preferences round."""
        if cfg.method.beta <= 0:
            raise UserError(f"method.beta={cfg.method.beta} must be above 0: at 0 or below SimPO has nothing to learn.")

    @classmethod
    def mean_of_rows(cls, cfg):
        """A mean over pairs, without the likelihood term."""
        return True

    @classmethod
    def equation(cls, cfg, batch):
        """Meng et al., 2024, equation 6."""
        from torch.nn.functional import logsigmoid

        chosen, rejected = batch["chosen"], batch["rejected"]
        margins = chosen.policy.sum(-1) / chosen.lengths - rejected.policy.sum(-1) / rejected.lengths
        return -logsigmoid(cfg.method.beta * margins - cfg.method.simpo_gamma).mean()


@hookimpl
def alignzoo_methods():
    return [SimPO]


@hookimpl
def alignzoo_config_packages():
    return ["alignzoo_simpo.conf"]
