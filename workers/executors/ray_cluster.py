"""The same doors as `serial`, on a Ray cluster: Tune for trials, Train for sharded training.

A trial's results never travel through Tune's own files: a trial leaves its outcome in the study's
directory and reports where. A failure of the trial's own making (a NaN, say) ends it with an
`error` row; Tune retries only what was lost with a process or a node.
"""

from __future__ import annotations

import itertools
import math
import threading
import time
import traceback
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import ray
import torch
import torch.distributed as dist
from ray import train, tune
from ray.exceptions import RayActorError, RayError
from ray.train.torch import TorchConfig, TorchTrainer, get_device
from ray.tune.logger import TBXLoggerCallback
from ray.util.queue import Empty, Queue

from search_spaces.base import Architecture
from workers.executors.connection import HEAD, blind_nodes, cluster_nodes, connect
from workers.executors.kept import KeptPredictions
from workers.executors.ray_forwarding import Forward
from workers.executors.ray_metrics import metered
from workers.executors.ray_predicting import AskingDesk, Desk, answer
from workers.executors.ray_processes import fetched, fetched_once, process, spread
from workers.executors.ray_reservations import free_orphans
from workers.executors.work import Resources, Row, Work, slots
from workers.protocol import Predict
from workers.storage import joined, parent_and_name
from workers.trial_tags import log_with_tags

Item = TypeVar("Item")
Result = TypeVar("Result")

# A trial whose workers are processes of their own holds none of what they need: its driver sits on
# the head.
DRIVER_RESOURCES = {HEAD: 0.001}
COLLECTIVE_TIMEOUT_S = 120  # ranks that wait for a lost one give up after this


class RayCluster:
    """An executor on a Ray cluster: the one at `address`, else one started on this machine."""

    name = "ray"

    def __init__(self, resources: Resources, address: str | None = None) -> None:
        self.resources = resources
        self._started = connect(address)

    def close(self) -> None:
        """Leave the cluster; a local one ends."""
        if self._started:
            ray.shutdown()

    def blind_nodes(self, path: Path) -> list[str]:
        """Return the nodes that may work for a study and do not see a file of this machine."""
        return blind_nodes(path, self.resources.per_worker())

    def share(self, value: Any) -> Any:
        """Put a value into the object store, from where each node fetches it once."""
        return ray.put(value)

    def map(
        self,
        fn: Callable[..., Result],
        items: Sequence[Item],
        *,
        setup: Callable[[Mapping[str, Any]], Any] | None = None,
        shared: Mapping[str, Any] | None = None,
        resources: Mapping[str, float] | None = None,
    ) -> Iterator[Result]:
        """Yield fn(item) in order; with `setup`, fn(setup(shared), item).

        `setup` runs once per process, with what `share` made of the shared values.
        `resources` sends all items to one process that holds them (a measured target); otherwise
        as many processes as fit share the items.

        Raises:
            RayError: processes were lost too often.
            Exception: what a call raised.
        """
        asked = dict(resources) if resources is not None else self.resources.per_worker()
        fit = max(1, slots(asked, cluster_nodes(None)))
        count = 1 if resources is not None else min(len(items), fit)
        return spread(partial(process, asked, setup, shared or {}), count, fn, items)

    @contextmanager
    def predictor(
        self,
        make: Callable[[Mapping[str, Any]], Predict],
        shared: Mapping[str, Any],
        *,
        key: Callable[[Architecture], str],
        keep: Callable[[], KeptPredictions],
    ) -> Iterator[Predict]:
        """Yield a predictor that trials share: as many processes as fit evaluate networks for it.

        While it is there they hold all that work may ask for; trials that are given it under
        `shared["predict"]` hold nothing.

        Args:
            make: makes the predictor of a process from what `share` made of the shared values.
            shared: values for it.
            key: tells networks apart; equal ones are evaluated once.
            keep: opens what was evaluated before.

        Raises:
            DamagedError: what was evaluated before cannot be read.
        """
        asked = self.resources.per_worker()
        count = max(1, slots(asked, cluster_nodes(None)))
        actor: Any = ray.remote(num_cpus=0, resources=DRIVER_RESOURCES, max_restarts=2)(Desk)
        start = partial(process, asked, make, shared)
        desk = actor.options(max_task_retries=2).remote(start, count, key, keep)
        try:
            answer(desk.open.remote())
            yield AskingDesk(desk)
        finally:
            ray.kill(desk)  # its processes end with it

    def run_trials(
        self,
        work: Work,
        trials: Sequence[Any],
        shared: Mapping[str, Any],
        on_row: Callable[[Row], None],
        time_budget_s: float | None = None,
        folder: str = "",
    ) -> None:
        """Run trials as Tune's in `folder`; rows arrive through `on_row`.

        `shared` holds what `share` returned; trials that find a predictor there compute elsewhere.
        Trials that do not end within the time budget are stopped. Tune gives up at once, and not
        always with a word, a trial whose process is lost as it comes to it from another one; an
        experiment of its own follows.
        """
        end = math.inf if time_budget_s is None else time.monotonic() + time_budget_s
        left, losses = {trial.id: trial for trial in trials}, Counter[str]()
        while left and time.monotonic() < end:
            rows = _Rows(on_row)
            retries = self.resources.max_failures - max(losses[name] for name in left)
            self._tune(work, left, shared, rows, retries, end - time.monotonic(), folder)
            left = {name: trial for name, trial in left.items() if name not in rows.completed}
            has_time = time.monotonic() < end
            for name in list(left):
                losses[name] += max(has_time, len(rows.losses[name]))
                if losses[name] > self.resources.max_failures:
                    reason = "its process, GPU or node was lost more often than"
                    on_row({"trial": name, "error": f"{reason} resources.max_failures allows"})
                    del left[name]

    def _tune(
        self,
        work: Work,
        by_id: Mapping[str, Any],
        shared: Mapping[str, Any],
        rows: _Rows,
        retries: int,
        time_budget_s: float,
        folder: str,
    ) -> None:
        """Run trials as one Tune experiment, until each has ended or Tune gives it up."""
        board = _Board()  # type: ignore[no-untyped-call]
        root, name = parent_and_name(folder)
        workers = self.resources.trial_workers
        several = workers > 1
        # Tune unpickles the trainable twice a trial, in the driver: it must stay small.
        trainable = _trainable(work, ray.put(by_id), shared, self.resources, root)
        is_light = several or shared.get("predict") is not None
        asked = DRIVER_RESOURCES if is_light else self.resources.per_worker()
        limit = self.resources.max_concurrent_trials
        if is_light:  # nothing else holds them back; others wait for room, also on a node to come
            fit = slots(self.resources.per_worker(workers), cluster_nodes(None))
            at_once = max(1, fit // workers)
            limit = min(at_once, limit or at_once)
        tuner = tune.Tuner(
            tune.with_resources(trainable, tune.PlacementGroupFactory([dict(asked)])),
            param_space={"trial": tune.grid_search(list(by_id))},
            tune_config=tune.TuneConfig(
                reuse_actors=True,
                max_concurrent_trials=limit,
                time_budget_s=None if math.isinf(time_budget_s) else time_budget_s,
                trial_dirname_creator=lambda trial: trial.config["trial"],
                trial_name_creator=lambda trial: trial.config["trial"],
            ),
            run_config=tune.RunConfig(
                name=name,
                storage_path=root,
                failure_config=tune.FailureConfig(max_failures=retries),
                callbacks=[rows, board],
                verbose=0,
            ),
        )
        try:
            tuner.fit()
        finally:
            board.close()

    def train_sharded(
        self,
        work: Work,
        trial: Any,
        shared: Mapping[str, Any],
        on_row: Callable[[Row], None],
        folder: str = "",
    ) -> None:
        """Train data-parallel on `resources.workers` workers; lost ones are replaced.

        Raises:
            RayActorError: workers as they were started, or what leads them, were lost too often.
        """
        resources = self.resources
        for losses in itertools.count(1):
            try:
                _train(work, trial, shared, resources, resources.workers, folder, on_row)
                return
            except RayActorError:  # one that Train does not replace: what leads the workers, say
                if losses > resources.max_failures:
                    raise


class _Rows(tune.Callback):
    """Hands every report to the driver, and keeps which trials ended and when others were lost."""

    def __init__(self, on_row: Callable[[Row], None]) -> None:
        self.on_row = on_row
        self.completed: set[str] = set()
        self.losses: defaultdict[str, set[int]] = defaultdict(set)

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its callbacks into a file that we never read back

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.on_row({"trial": trial.config["trial"]})

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        if "trial" in result:
            self.on_row({key: value for key, value in result.items() if key != "config"})

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.completed.add(trial.config["trial"])
        # Nobody reads Tune's statistics of an ended trial: 20 KiB of each, in the driver.
        trial.metric_analysis.clear()
        trial.metric_n_steps.clear()
        trial.run_metadata.invalidate_cache()

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        # The loss of a process that comes from another trial is told twice, in one iteration.
        self.losses[trial.config["trial"]].add(iteration)

    on_trial_error = on_trial_recover


class _Board(TBXLoggerCallback):
    """TensorBoard files of each trial."""

    def close(self) -> None:
        """End the writers' threads, which outlive an interrupt and then complain."""
        for writer in self._trial_writer.values():
            writer.close()


def _trainable(
    work: Work,
    by_id: ray.ObjectRef[Mapping[str, Any]],
    shared: Mapping[str, Any],
    resources: Resources,
    root: str,
) -> Callable[[dict[str, Any]], None]:
    def run_one(config: dict[str, Any]) -> None:
        trial = fetched_once(by_id)[config["trial"]]
        log_with_tags()
        if dist.is_initialized():  # left behind in a reused process
            dist.destroy_process_group()
        try:
            if resources.trial_workers > 1:
                folder = joined(root, f"train-{trial.stage}-{trial.id}-{trial.attempt}")
                count = resources.trial_workers
                _train(work, trial, shared, resources, count, folder, tune.report)
            else:
                computes = shared.get("predict") is None
                uses_gpu = computes and resources.gpus_per_worker
                device = torch.device("cuda" if uses_gpu else "cpu")
                work(trial, fetched(shared), metered(tune.report), device)
        except (RayError, torch.AcceleratorError):
            raise  # what it needs was lost, or its process' GPU: Tune starts it again elsewhere
        except Exception as error:
            traceback.print_exc()
            tune.report({"trial": trial.id, "error": one_line(error)})

    return run_one


def _train(
    work: Work,
    trial: Any,
    shared: Mapping[str, Any],
    resources: Resources,
    workers: int,
    folder: str,
    on_row: Callable[[Row], None],
) -> None:
    def loop() -> None:
        device = get_device()
        log_with_tags()
        try:
            work(trial, fetched(shared), metered(train.report), torch.device(device))
        except (ValueError, ArithmeticError) as error:  # the same on all ranks
            traceback.print_exc()
            train.report({"trial": trial.id, "error": one_line(error)})

    # On the head, for which a trial's own placement group has no room.
    where = {"resources": DRIVER_RESOURCES, "scheduling_strategy": "DEFAULT"}
    queue = Queue(actor_options={"num_cpus": 0, **where})
    root, name = parent_and_name(folder)
    trainer = TorchTrainer(
        loop,
        torch_config=TorchConfig(timeout_s=COLLECTIVE_TIMEOUT_S),
        scaling_config=train.ScalingConfig(
            num_workers=workers,
            use_gpu=resources.gpus_per_worker > 0,
            resources_per_worker=resources.per_worker(workers),
        ),
        run_config=train.RunConfig(
            name=name,
            storage_path=root,
            failure_config=train.FailureConfig(max_failures=resources.max_failures),
            callbacks=[Forward(queue)],  # type: ignore[list-item]
        ),
    )
    free_orphans()  # of an earlier try, whose leader was lost
    try:
        _fit(trainer, queue, on_row)
    except train.WorkerGroupError as error:
        on_row({"trial": trial.id, "error": one_line(_first_cause(error))})
    finally:
        queue.shutdown(force=True)


def _fit(trainer: TorchTrainer, queue: Queue, on_row: Callable[[Row], None]) -> None:
    """Train in a thread (Train would take Ctrl-C over in the main one) and pass rows on."""
    failure: list[BaseException] = []

    def fit() -> None:
        try:
            trainer.fit()
        except Exception as error:
            failure.append(error)

    thread = threading.Thread(target=fit, daemon=True)
    thread.start()
    try:
        while thread.is_alive() or not queue.empty():
            with suppress(Empty):
                on_row(queue.get(timeout=0.2))
    except RayActorError:
        thread.join()  # nothing may start again beside what still runs
        raise
    if failure:
        raise _loss(failure[0]) or failure[0]


def _loss(error: BaseException) -> RayActorError | None:
    """Return the loss that ended Train: it replaces workers, but none lost as they are started."""
    cause = error.controller_failure if isinstance(error, train.ControllerError) else None
    return cause if isinstance(cause, RayActorError) else None


def _first_cause(error: train.WorkerGroupError) -> BaseException:
    """Return what one rank failed of, rather than what that did to those that waited for it."""
    failures = list(error.worker_failures.values())
    own = [failure for failure in failures if not isinstance(failure, dist.DistBackendError)]
    return (own or failures or [error])[0]


def one_line(error: BaseException) -> str:
    """Return an error's kind and message on one line."""
    message = " ".join(str(error).split())
    return f"{type(error).__name__}: {message}" if message else type(error).__name__
