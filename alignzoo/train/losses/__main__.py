"""Prints the verdict on a run whose keys come as YAML, as JSON: ``python -m alignzoo.train.losses``."""

import dataclasses
import json
import sys
from typing import Any

from omegaconf import OmegaConf

from alignzoo.plugin.registry import registry
from alignzoo.train.losses.apart import MARK
from alignzoo.train.losses.verdict import reach_verdict

if __name__ == "__main__":
    cfg: Any = OmegaConf.create(sys.stdin.read())
    print(MARK + json.dumps(dataclasses.asdict(reach_verdict(registry().method(cfg.method.name), cfg))))
