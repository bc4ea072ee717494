"""Train in a process that a test can kill, as ``python train.py JOB``.

``JOB`` is the JSON of the arguments.
"""

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
