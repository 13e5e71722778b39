"""The ranges of a configuration's values, checked on a composed configuration."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from src.config.checks import check_given, check_one_device, check_ranges, has_several_devices
from src.config.kinds import check_kinds
from src.errors import UserError, whole
from tests.support.compose import composed as command_line
from tests.support.paths import CONF

CRF = "iterations, position, colour, weight, smooth_position, smooth_weight"


@pytest.fixture(scope="module")
def composed() -> DictConfig:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("train")


@pytest.fixture
def cfg(composed: DictConfig) -> DictConfig:
    return composed.copy()


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("seed", -1, "seed=-1: must be a whole number, at least 0"),
        ("seed", True, "seed=True: must be a whole number, at least 0"),
        ("data.batch_size", 0, "data.batch_size=0: must be a whole number, at least 1"),
        ("data.eval_batch_size", None, "data.eval_batch_size=None: must be a whole number, at least 1"),
        ("trainer.max_epochs", 1.5, "trainer.max_epochs=1.5: must be a whole number, at least 1"),
        ("freeze.backbone_epochs", -1, "freeze.backbone_epochs=-1: must be a whole number, at least 0"),
        ("freeze.batchnorm_epochs", "all", "freeze.batchnorm_epochs=all: must be a whole number, at least 0"),
        ("data.num_workers", "many", "data.num_workers=many: must be auto or a whole number, at least 0"),
        ("data.num_workers", True, "data.num_workers=True: must be auto or a whole number, at least 0"),
        ("data.class_uniform", 1.5, "data.class_uniform=1.5: must be 0 to 1"),
        ("data.class_uniform", True, "data.class_uniform=True: must be 0 to 1"),
        ("data.crop_size", 64, "data.crop_size=64: must be [HEIGHT,WIDTH] in pixels"),
        ("inference.size", [64, 0], "inference.size=[64, 0]: must be [HEIGHT,WIDTH] in pixels"),
        ("inference.short_side", 0, "inference.short_side=0: must be null or a whole number, at least 1"),
        ("inference.window", [64], "inference.window=[64]: must be [HEIGHT,WIDTH] in pixels"),
        ("inference.overlap", 1, "inference.overlap=1: must be at least 0 and below 1"),
        ("inference.weights", "bell", "inference.weights=bell: must be one of flat, gaussian"),
        (
            "inference.weights",
            "gaussian",
            "inference.weights=gaussian: there are no windows to weigh; give inference.window=[HEIGHT,WIDTH]",
        ),
        ("inference.labels", "half", "inference.labels=half: must be one of own, seen"),
        ("inference.crop", 64, "inference.crop=64: must be [HEIGHT,WIDTH] in pixels"),
        ("inference.crf", 5, f"inference.crf=5: must be null, or {{}} with any of {CRF} in it"),
        ("inference.crf", {"sigma": 3}, f"inference.crf.sigma: there is no such parameter; it has {CRF}"),
        ("inference.crf", {"iterations": 0}, "inference.crf.iterations=0: must be a whole number, at least 1"),
        ("inference.crf", {"colour": 0}, "inference.crf.colour=0: must be a number above 0 (a weight may be 0)"),
        ("inference.crf", {"weight": -1}, "inference.crf.weight=-1: must be a number above 0 (a weight may be 0)"),
        ("inference.scales", [], "inference.scales=[]: must be one or more factors above 0"),
        ("inference.scales", [1.0, 0], "inference.scales=[1.0, 0]: must be one or more factors above 0"),
        ("inference.scales", 1.0, "inference.scales=1.0: must be one or more factors above 0"),
        ("inference.flip", "both", "inference.flip=both: must be true or false"),
        ("optimizer.lr", 0, "optimizer.lr=0: must be a number above 0"),
        ("optimizer.lr", "abc", "optimizer.lr=abc: must be a number above 0"),
        ("trainer.check_val_every_n_epoch", 0, "trainer.check_val_every_n_epoch=0: must be a whole number, at least 1"),
        ("trainer.sync_batchnorm", "maybe", "trainer.sync_batchnorm=maybe: must be auto, true or false"),
        ("trainer.accelerator", "tup", "trainer.accelerator=tup: must be one of auto, cpu, gpu, cuda, mps, tpu"),
        ("trainer.strategy", "dpp", "trainer.strategy=dpp: must be one of auto, ddp, ddp_find_unused_parameters_true"),
        ("trainer.devices", 0, "trainer.devices=0: must be auto, -1, a list of numbers or a whole number, at least 1"),
        ("trainer.num_nodes", 0, "trainer.num_nodes=0: must be a whole number, at least 1"),
        (
            "trainer.num_nodes",
            2,
            "trainer.num_nodes=2: nothing has started this command on the others; start it on each node by torchrun, "
            "or by srun (docs/training.md, Several nodes)",
        ),
        ("trainer.accumulate_grad_batches", 0, "trainer.accumulate_grad_batches=0: must be a whole number, at least 1"),
        ("trainer.gradient_clip_val", -1, "trainer.gradient_clip_val=-1: must be null or a number above 0"),
        ("trainer.deterministic", "war", "trainer.deterministic=war: must be true, false or warn"),
        ("seed", 2**32, "seed=4294967296: must be at most 4294967295"),
        ("data.fold_seed", 2**32, "data.fold_seed=4294967296: must be at most 4294967295"),
        ("optimizer.weight_decay", -1, "optimizer.weight_decay=-1: must be a number of at least 0"),
        ("augment_on", "gpu", "augment_on=gpu: must be worker or device"),
        ("loss.terms", None, "loss.terms is empty; choose another loss=..., or leave it out"),
        ("callbacks.panels.num_images", 0, "callbacks.panels.num_images=0: must be a whole number, at least 1"),
    ],
)
def test_values_out_of_range(cfg: DictConfig, key: str, value: Any, message: str) -> None:
    check_ranges(cfg)
    OmegaConf.update(cfg, key, value)
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        check_ranges(cfg)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("resume=runs/mine", "resume=runs/mine: must be true or false"),
        ("resume=1", "resume=1: must be true or false"),
        ("inference.flip=yess", "inference.flip=yess: must be true or false"),
        ("task.compile=all", "task.compile=all: must be true or false"),
        ("trainer.benchmark=fast", "trainer.benchmark=fast: must be true or false"),
        ("optimizer.lr=abc", "optimizer.lr=abc: must be a number, such as 0.0"),
        ("optimizer.lr=nan", "optimizer.lr=nan: must be a number, such as 0.0"),
        ("optimizer.weight_decay=true", "optimizer.weight_decay=True: must be a number, such as "),
        ("scheduler.warmup_epochs=half", "scheduler.warmup_epochs=half: must be a number, such as "),
        ("backbone.mean=[a,b,c]", "backbone.mean=['a', 'b', 'c']: must be numbers, such as [0.5, 0.5, 0.5]"),
        ("inference.scales=[one]", "inference.scales=['one']: must be numbers, such as [1.0]"),
    ],
)
def test_values_of_another_kind(word: str, message: str) -> None:
    with command_line("train", word) as cfg, pytest.raises(UserError, match=f"^{re.escape(message)}"):
        check_kinds(cfg)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("name=[a,b]", "name=['a', 'b']: must be one text, no list"),
        ("name={a:1}", "name={'a': 1}: must be one text"),
        ("init_from=[a]", "init_from=['a']: must be one text, no list"),
        ("runs=null", "runs=null: must not be empty; give runs=..., or leave it out for its default"),
        ("runs=", "runs='': must not be empty"),
        ("optimizer.lr=[1]", "optimizer.lr=[1]: must be one value, no list"),
        ("optimizer.lr={a:1}", "optimizer.lr={'a': 1}: must be one value, such as 0.003"),
        ("optimizer.optimizer.betas=3", "optimizer.optimizer.betas=3: must be numbers, such as [0.9, 0.999]"),
        ("loss.terms=null", "loss.terms=null: must not be empty"),
        ("scheduler.warmup_epochs=null", "scheduler.warmup_epochs=null: must not be empty"),
        ("optimizer.optimizer.betas=null", "optimizer.optimizer.betas=null: must not be empty"),
        ("loss.aux_weight=null", "loss.aux_weight=null: must not be empty"),
        ("data.classes=3", "data.classes is filled in by the program; leave it out"),
        ("choices=1", "choices is filled in by the program; leave it out"),
        ("task.seed=3", "task.seed always is that of seed; give seed=... instead, or leave it out"),
        ("datamodule.batch_size=4", "datamodule.batch_size always is that of data.batch_size; give data.batch_size"),
        ("model.num_classes=5", "model.num_classes always is that of data.classes; leave it out"),
        ("+foo=1", "+foo=1: nothing reads foo; leave it out, or give a key in one of augment_on, "),
    ],
)
def test_values_that_have_no_effect_or_another_shape(word: str, message: str) -> None:
    with command_line("train", word) as cfg, pytest.raises(UserError, match=f"^{re.escape(message)}"):
        check_kinds(cfg)


def test_a_needed_value_cannot_be_null_and_lists_stay_lists() -> None:
    message = r"^data\.root=null: must not be empty; give data\.root=\.\.\.$"
    with command_line("train", "data=folder", "data.root=null") as cfg, pytest.raises(UserError, match=message):
        check_kinds(cfg)
    for command, words in (
        ("aggregate", ("runs=[a,b]", "inference.scales=[0.5,1]")),
        ("eval", ("run=x", "inference.size=[64,64]", "inference.size=null")),
        ("eval", ("run=x", "inference.crf={}")),
        ("eval", ("run=x", "inference.crf={position:40,weight:5.0}", "split=val")),
        ("train", ("inference.crf={iterations:10}",)),
        ("train", ("optimizer.layer_decay=null", "loss.alpha=null", "loss.terms.ce.loss.class_weights=null")),
        ("train", ("data.pack=null", "callbacks.panels=null", "trainer.devices=[0,1]", "+callbacks.x._target_=a.B")),
        ("train", ("data.group='^(a)'", "inference.scales=[1,2]", "data=folder", "data.root=x")),
    ):
        with command_line(command, *words) as cfg:
            check_kinds(cfg)


def test_the_kind_is_that_of_the_chosen_groups() -> None:
    good = ("model=deeplabv3plus", "optimizer=sgd", "resume=false", "optimizer.lr=1", "trainer.devices=auto", "name=1")
    with command_line("train", *good, "data.num_workers=2", "+trainer.limit_train_batches=2") as cfg:
        check_kinds(cfg)
    message = r"^optimizer\.optimizer\.momentum=much: must be a number, such as 0\.9"
    words = ("optimizer=sgd", "optimizer.optimizer.momentum=much")
    with command_line("train", *words) as cfg, pytest.raises(UserError, match=message):
        check_kinds(cfg)
    with command_line("eval", "run=x", "precision=32-true") as cfg:
        check_kinds(cfg)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("overfit_batches", 1, "trainer.overfit_batches=1: this program does not take it; give data of a few images"),
        ("fast_dev_run", True, "trainer.fast_dev_run=True: this program does not take it; for a first try give scale"),
        ("limit_val_batches", 1, "trainer.limit_val_batches=1: this program does not take it; figures are of all imag"),
        (
            "limit_test_batches",
            1,
            "trainer.limit_test_batches=1: this program does not take it; of Lightning",
        ),
        ("callbacks", [], "trainer.callbacks=[]: this program does not take it; give +callbacks.NAME._target_=CLASS"),
        ("profiler", "simple", "trainer.profiler=simple: this program does not take it; profile the command from outs"),
        ("max_steps", 1, "trainer.max_steps=1: this program does not take it; give trainer.max_epochs, and for short"),
        ("barebones", True, "trainer.barebones=True: this program does not take it"),
        ("enable_checkpointing", False, "trainer.enable_checkpointing=False: must be true, for the best checkpoint"),
        ("use_distributed_sampler", True, "trainer.use_distributed_sampler=True: must be false, for the data module"),
        (
            "gradient_clip_algorithm",
            "value",
            "trainer.gradient_clip_algorithm=value: nothing is clipped without trainer.gradient_clip_val; give both",
        ),
        ("limit_train_batches", 0, "trainer.limit_train_batches=0: must be a number of batches per epoch, at least 1"),
        ("limit_train_batches", 1.5, "trainer.limit_train_batches=1.5: must be a number of batches per epoch"),
    ],
)
def test_options_of_the_trainer_that_are_not_honoured(cfg: DictConfig, key: str, value: Any, message: str) -> None:
    OmegaConf.update(cfg, f"trainer.{key}", value, force_add=True)
    with pytest.raises(UserError, match=f"^{re.escape(message)}"):
        check_ranges(cfg)


OPTIONS = [("limit_train_batches", 2), ("limit_train_batches", 0.5), ("detect_anomaly", True)]


@pytest.mark.parametrize(("key", "value"), OPTIONS)
def test_options_of_the_trainer_that_are(cfg: DictConfig, key: str, value: Any) -> None:
    OmegaConf.update(cfg, f"trainer.{key}", value, force_add=True)
    check_ranges(cfg)


def test_a_mandatory_value_that_is_missing(cfg: DictConfig) -> None:
    check_given(cfg)
    cfg.data.crop_size = "???"
    with pytest.raises(UserError, match=r"^data\.crop_size is not set; give data\.crop_size=\.\.\. on the command"):
        check_given(cfg)


@pytest.mark.parametrize(
    ("devices", "expected"), [(1, False), ("1", False), ([0], False), (2, True), ("auto", True), ([0, 1], True)]
)
def test_several_devices(cfg: DictConfig, devices: Any, expected: bool) -> None:
    cfg.trainer.devices = devices
    assert has_several_devices(cfg) is expected
    cfg.trainer.num_nodes = 2
    assert has_several_devices(cfg)


def test_a_range_test_runs_on_one_device(cfg: DictConfig) -> None:
    check_one_device(cfg)
    cfg.trainer.devices = 2
    with pytest.raises(
        UserError, match=r"runs on one device, and trainer\.devices=2, trainer\.num_nodes=1; set trainer"
    ):
        check_one_device(cfg)


@pytest.mark.parametrize("value", [True, False, 1.0, "2", None, 0])
def test_whole_numbers(value: Any) -> None:
    assert whole("key", 1, 1) == 1
    with pytest.raises(UserError, match=rf"^key={value}: must be auto or a whole number, at least 1$"):
        whole("key", value, 1, also="auto")


def test_settings_of_a_term_that_the_loss_does_not_have(fails: Callable[..., str]) -> None:
    message = fails("train", "experiment=camvid/unet_lite0", "loss=ohem", "data.root=x")
    assert message.startswith("loss.terms.ce has settings, of the recipe or the command line, and no loss: the loss ")
    assert "add ~loss.terms.ce to the command" in message
