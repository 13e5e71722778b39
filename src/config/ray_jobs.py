"""Jobs of a sweep as tasks of a Ray cluster, which finds a machine with free CPUs and GPUs for each."""

import importlib.util
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from src.errors import UserError, whole
from src.machine import PARENT_VARIABLE, RUN_VARIABLE, reachable

FORWARDED = ("STREETSEG_", "WANDB_")  # beginnings of the environment variables that a job has from the sweep
OWN_CLUSTER = {"include_dashboard": False, "object_store_memory": 100 * 2**20}  # bytes; only configurations pass


class RayJobs(Launcher):
    """Starts all jobs of a sweep, each of which waits until a machine of the cluster has the CPUs and GPUs for it.

    All machines see the checkout and the runs under the same paths. A job whose machine is lost begins again on
    another, up to three times, from its last checkpoint.

    Args:
        num_cpus: per job, also its number of threads.
        num_gpus: per job, also a part of one; None: one if the cluster has any.
        address: of a cluster that runs, `HOST:6379` or `auto`; None: one on this machine, which ends with the sweep.

    Raises:
        UserError: ray is missing; there is no cluster; none of its machines has what a job needs.
    """

    def __init__(self, num_cpus: int = 1, num_gpus: float | None = None, address: str | None = None) -> None:
        self.num_cpus = whole("hydra.launcher.num_cpus", num_cpus, 1)
        if num_gpus is not None and (isinstance(num_gpus, str) or not num_gpus >= 0):
            raise UserError(f"hydra.launcher.num_gpus={num_gpus}: must be null or a number, at least 0")
        self.num_gpus, self.address = num_gpus, address

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.job = {"hydra_context": hydra_context, "task_function": task_function, "config": config}

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
        with cluster(self.address) as ray:
            start = ray.remote(_run).options(**self._needs(ray.nodes()))
            own = {
                name: value
                for name, value in os.environ.items()
                if name.startswith(FORWARDED) and name not in (PARENT_VARIABLE, RUN_VARIABLE)
            }
            place = {"folder": os.getcwd(), "environment": own, "state": Singleton.get_state()}
            tasks = [
                start.remote(self.job, place, list(overrides), initial_job_idx + number)
                for number, overrides in enumerate(job_overrides)
            ]
            return [_result(ray, task) for task in tasks]

    def _needs(self, machines: Sequence[Mapping[str, Any]]) -> dict[str, float]:
        """Returns the CPUs and GPUs of a job. Ray would wait for ever for a machine that has them."""
        has = [each["Resources"] for each in machines if each["Alive"]]
        gpus = self.num_gpus if self.num_gpus is not None else min(1, max(each.get("GPU", 0) for each in has))
        if not any(each.get("CPU", 0) >= self.num_cpus and each.get("GPU", 0) >= gpus for each in has):
            found = "; ".join(f"{each.get('CPU', 0):g} CPUs and {each.get('GPU', 0):g} GPUs" for each in has)
            raise UserError(
                f"hydra.launcher.num_cpus={self.num_cpus:g} num_gpus={gpus:g}: no machine of the Ray cluster has so "
                f"many; they have {found}; give fewer"
            )
        return {"num_cpus": self.num_cpus, "num_gpus": gpus}


@contextmanager
def cluster(address: str | None) -> Iterator[Any]:
    """Connects to a Ray cluster, or begins one that ends with the block; yields the package."""
    if importlib.util.find_spec("ray") is None:
        raise UserError("hydra/launcher=ray: needs the package ray; pip install it into this program's environment")
    # Ray would report to its authors; and the other is its next default, of which it warns.
    settings = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
    if address is None:  # others on this machine must not start jobs in it; Ray's own token needs a home folder
        settings |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    os.environ.update({name: value for name, value in settings.items() if name not in os.environ})
    import ray
    from ray.exceptions import AuthenticationError

    options = {"log_to_driver": False, "logging_level": "WARNING"} | ({} if address else OWN_CLUSTER)
    try:
        if address and address != "auto" and not reachable(f"ray://{address}"):
            raise ConnectionError  # Ray would try for minutes
        ray.init(address or "local", **options)
    except (ConnectionError, AuthenticationError) as error:
        raise UserError(
            f"hydra.launcher.address={address}: no Ray cluster answers there, or one with another token "
            "(RAY_AUTH_TOKEN); start one with `ray start --head`, or leave the address out for one on this machine"
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _run(job: Mapping[str, Any], place: Mapping[str, Any], overrides: Sequence[str], number: int) -> JobReturn:
    """Runs one job in a process of the cluster, as the sweep's own process would."""
    os.chdir(place["folder"])
    os.environ.update(place["environment"])
    Singleton.set_state(place["state"])
    launcher = BasicLauncher()
    launcher.setup(**job)
    (result,) = launcher.launch([overrides], number)
    return result


def _result(ray: Any, task: Any) -> JobReturn:
    """Waits for a job. One that the cluster could not run, or has lost too often, has failed; the others go on."""
    try:
        return ray.get(task)
    except ray.exceptions.RayError as error:
        result = JobReturn(status=JobStatus.FAILED)
        result.return_value = UserError(f"the Ray cluster did not end a job: {error}")
        return result
