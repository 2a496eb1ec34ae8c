"""SimPO: preference optimization with a length-normalised, reference-free reward (Meng et al., 2024)."""

from alignzoo import DataFormat, Method, hookimpl


class SimPO(Method):
    """Simple Preference Optimization (Meng et al., 2024): a length-normalised reward with a target margin."""

    name = "simpo"
    data = DataFormat.PREFERENCE
    config = "trl.experimental.cpo:CPOConfig"
    trainer = "trl.experimental.cpo:CPOTrainer"
    pinned = {"loss_type": "simpo", "cpo_alpha": 0.0, "remove_unused_columns": False}


@hookimpl
def alignzoo_methods():
    return [SimPO]


@hookimpl
def alignzoo_config_packages():
    return ["alignzoo_simpo.conf"]
