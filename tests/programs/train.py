"""Train in a process of its own, which a test can kill: ``python train.py JOB``, with the arguments as JSON."""

from __future__ import annotations

import json
import logging
import sys

from tidalkin import config
from tidalkin.model.train import train

SECTIONS = {
    "stretch": config.Stretch,
    "augment": config.Augment,
    "encoder": config.Network,
    "training": config.Training,
    "injection": config.Injection,
    "compute": config.Compute,
}

logging.basicConfig(level=logging.INFO)
job = json.loads(sys.argv[1])
arguments = {key: SECTIONS[key](**value) if key in SECTIONS else value for key, value in job.items()}
train(arguments.pop("store"), arguments.pop("output"), **arguments)
