"""Composes every configuration with the next release of Hydra, so that the way there stays open.

python scripts/check_next_hydra.py [--release 1.4.0rc3] [--folder .venv-next-hydra]

Installs that release into a folder of its own, beside the environment that this runs in, and composes there each
command of conf/ with each choice of each of its groups. Prints what fails, and exits with status 1 then.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
INSIDE = "STREETSEG_NEXT_HYDRA"


def install(release: str, folder: Path) -> None:
    """Installs Hydra and OmegaConf into a folder, unless it has this release."""
    if not (folder / f"hydra_core-{release}.dist-info").is_dir():
        uv = Path(sys.executable).with_name("uv")
        command = [str(uv), "pip", "install", "--quiet", "--prerelease", "allow", "--target", str(folder)]
        subprocess.run([*command, "--python", sys.executable, f"hydra-core=={release}"], check=True)


def compose_all() -> list[str]:
    """Composes the commands with their groups; returns what failed."""
    import hydra
    import omegaconf
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import open_dict

    from src.config.kinds import check_kinds
    from src.config.messages import CONF
    from src.config.resolvers import register_resolvers

    register_resolvers()
    print(f"hydra-core {hydra.__version__}, omegaconf {omegaconf.__version__}", flush=True)
    commands = sorted(path.stem for path in CONF.glob("*.yaml") if path.name[0] != "_" and path.stem != "wandb_sweep")
    failed, count = [], 0
    with initialize_config_dir(str(CONF), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        # Each choice once: the other commands compose the same groups as src.train.
        jobs = [(command, []) for command in commands]
        for group in loader.list_groups(""):
            owner = {"stages": "stages", "table": "reproduce"}.get(group, "train")
            names = (name.with_suffix("").relative_to(CONF / group) for name in (CONF / group).rglob("*.yaml"))
            words = [f"{group}={name}" for name in names if not name.name.startswith("_") and group != "hydra"]
            jobs += [(owner, [word]) for word in sorted(words)]
        for command, words in jobs:
            count += 1
            try:
                cfg = compose(command, words, return_hydra_config=True)
                HydraConfig.instance().set_config(cfg)
                with open_dict(cfg):
                    cfg.pop("hydra")
                check_kinds(cfg)
            except Exception as error:
                failed.append(f"src.{command} {' '.join(words)}: {type(error).__name__}: {str(error).splitlines()[0]}")
    print(f"{count - len(failed)} of {count} configurations compose", flush=True)
    return failed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--release", default="1.4.0rc3")
    parser.add_argument("--folder", type=Path, default=ROOT / ".venv-next-hydra")
    options = parser.parse_args()
    if INSIDE in os.environ:
        sys.path.insert(0, str(ROOT))
        failed = compose_all()
        print("\n".join(failed), file=sys.stderr)
        sys.exit(bool(failed))
    install(options.release, options.folder)
    path = os.pathsep.join([str(options.folder.resolve()), str(ROOT)])
    command = [sys.executable, __file__]
    sys.exit(subprocess.run(command, env={**os.environ, "PYTHONPATH": path, INSIDE: "1"}, check=False).returncode)


if __name__ == "__main__":
    main()
