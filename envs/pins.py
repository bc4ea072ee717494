"""Write the pinned environments from pyproject.toml: ``python envs/pins.py [--no-upgrade]``.

The versions are the newest compatible ones, except those in ``held.txt``. They are resolved on the oldest Python that
the package supports, so that they install on newer ones too.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ENVS = Path(__file__).resolve().parent
PIPELINE = "The environment of the pipeline, pinned. `make pins` writes it from pyproject.toml."
DEV = "Requirements of the tests, checks and documentation beyond requirements.txt. `make pins` writes it."
CONDA = """# The environment for `snakemake --sdm conda`: the pins of requirements.txt. `make pins` writes it.
channels:
  - conda-forge
  - nodefaults
dependencies:
  - python=3.11
  - pip
  - pip:
"""


def resolve(extras: list[str], constraints: list[Path], old: Path, upgrade: bool) -> list[str]:
    """Resolve the package with some extras; return lines ``name==version``, sorted."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "pins.txt"
        if not upgrade:
            output.write_text(old.read_text())
        command = [sys.executable, "-m", "piptools", "compile", "--quiet", "--strip-extras", "--allow-unsafe"]
        command += ["--no-header", "--no-annotate", "--no-emit-index-url", "--no-emit-find-links"]
        command += [f"--extra={extra}" for extra in extras]
        command += [f"--constraint={constraint}" for constraint in constraints]
        command += ["--upgrade"] if upgrade else []
        subprocess.run([*command, f"--output-file={output}", "pyproject.toml"], cwd=ENVS.parent, check=True)
        lines = re.findall(r"^([\w.-]+)==([^\s+;]+)", output.read_text(), flags=re.MULTILINE)
    # The installers themselves are those of the environment.
    pins = {name: version for name, version in lines if name not in {"pip", "wheel"}}
    return [f"{name}=={version}" for name, version in sorted(pins.items())]


def main() -> None:
    """Resolve and write the three files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--no-upgrade", action="store_true", help="change only what pyproject.toml makes necessary")
    upgrade = not parser.parse_args().no_upgrade
    if sys.version_info[:2] != (3, 11):
        sys.exit("pins are made on Python 3.11, the oldest that is supported: use it, or raise requires-python")
    requirements, dev = ENVS / "requirements.txt", ENVS / "requirements-dev.txt"

    pins = resolve(["pipeline", "slurm", "explorer"], [ENVS / "held.txt"], requirements, upgrade)
    requirements.write_text("\n".join([f"# {PIPELINE}", *pins, ""]))
    (ENVS / "tidalkin.yaml").write_text(CONDA + "".join(f"      - {pin}\n" for pin in pins))

    more = resolve(["pipeline", "slurm", "explorer", "docs", "dev"], [requirements], dev, upgrade)
    dev.write_text("\n".join([f"# {DEV}", *(pin for pin in more if pin not in pins), ""]))


if __name__ == "__main__":
    main()
