"""Write the JSON schema of the configuration: ``python -m tidalkin.config.schema > config/schema.json``.

Editors with a YAML language server complete and check the keys of a configuration that names the schema in its first
line.
"""

from __future__ import annotations

import json
from typing import Any

from tidalkin.config.settings import Settings


def configuration_schema() -> dict[str, Any]:
    """Return the JSON schema of the configuration.

    Examples
    --------
    >>> configuration_schema()["properties"]["seed"]["minimum"]
    0
    """
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Settings.model_json_schema()}


if __name__ == "__main__":
    print(json.dumps(configuration_schema(), indent=2, ensure_ascii=False))
