"""The zoo: a published run is small, names no machine, gives its card's figure, and no command writes into it."""

import json
import math
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from PIL import Image

from src.config.build import build_data
from src.config.publish_plan import check_name, clean_config, describe_start, plan_publication, read_notes
from src.config.reopen import load_run
from src.config.saved import load_config
from src.errors import UserError
from src.evaluation import publish as publishing
from src.evaluation.checkpoint import load_weights, read_checkpoint
from src.folds.compare import read_member
from src.models.half import read_safetensors, to_half, write_safetensors
from src.models.weights import read_weights
from src.reports.zoo import put_table, read_entries, read_index, write_index
from src.runs import zoo as zoo_module
from src.runs.folder import RunFolder
from src.runs.leakage import leakage_after, note_leakage
from src.runs.origin import find_origin
from src.runs.summary import places, summarise, without_places
from src.runs.zoo import find_run, nearest_runs, output_folder
from src.training.transfer import plan_transfer
from tests.support.compose import composed
from tests.support.paths import SMALL, TINY
from tests.support.runs import make_run

NAME = "streets_small"
README = "# Networks\n\n<!-- zoo: written by python scripts/list_zoo.py -->\n\nold\n\n<!-- end of zoo -->\n\nend\n"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return make_run(tmp_path_factory.mktemp("home") / "me" / "runs", *TINY, "data.dataset.num_test=2")


@pytest.fixture(scope="module")
def published(run: RunFolder, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """The same run in a zoo beside a README."""
    root = tmp_path_factory.mktemp("clone")
    (root / "README.md").write_text(README)
    with composed("publish", *words(run, root / "zoo"), "notes=Sees no trams.") as cfg:
        publishing.publish(plan_publication(cfg))
    return RunFolder(root / "zoo" / NAME)


def words(run: RunFolder, zoo: Path, name: str = NAME) -> list[str]:
    return [f"run={run.path}", f"name={name}", f"zoo={zoo}", "accelerator=cpu", "splits=[run,test]"]


@pytest.fixture
def elsewhere(published: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory outside of the repository, whose zoo is the one of `published`."""
    monkeypatch.setattr(zoo_module, "ZOO", published.path.parent)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def listing(folder: Path) -> dict[str, tuple[bytes, int]]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def test_a_published_run_is_small_and_names_no_machine(run: RunFolder, published: RunFolder) -> None:
    files = {path.name for path in published.path.iterdir()}
    assert files == {
        "README.md", "config.yaml", "environment.json", "exposure.json", "results.json", "weights.safetensors"
    }  # fmt: skip
    assert published.weights.stat().st_size < 0.55 * run.best.stat().st_size
    for path in published.path.iterdir():
        if path.suffix != ".safetensors":
            text = path.read_text()
            for secret in (str(run.path), str(run.path.parent), os.getcwd(), "/me/"):
                assert secret not in text, path
    assert not places(OmegaConf.to_container(load_config(published.config)))
    assert not places(published.read_environment())
    assert not [path for path in published.path.parent.iterdir() if path.name not in (NAME, "index.json")]


def test_the_figures_are_those_of_the_16_bits(run: RunFolder, published: RunFolder) -> None:
    full, half = run.read_results().own, published.read_results().own
    assert half.protocol == full.protocol
    assert half.checkpoint == full.checkpoint
    assert half.miou == pytest.approx(full.miou, abs=0.005)
    splits = [each.protocol.split for each in published.read_results().evaluations.values()]
    assert splits == ["val", "test"]
    card = (published.path / "README.md").read_text()
    assert f"| {half.tag} | {half.miou:.4f} |" in card
    assert f"rounded to 16 bits the first mIoU was {full.miou:.4f}" in card
    assert f"| Bicyclist | {half.iou['Bicyclist']:.4f} |" in card
    for part in ("MIT licence", "Sees no trams.", "## Not for", "3 epochs, 6 steps", "| seed | 0 |", "streets-11"):
        assert part in card


def test_every_tensor_comes_back_as_rounded(run: RunFolder, published: RunFolder) -> None:
    before = torch.load(run.best, weights_only=True)["state_dict"]
    content = read_checkpoint(published.checkpoint("best"), "")
    after = content["state_dict"]
    assert (content["epoch"], content["global_step"]) == (2, 6)
    assert after.keys() == before.keys()
    for name, tensor in before.items():
        is_kernel = tensor.ndim > 1 and tensor.numel() > 256
        expected = tensor.half().float() if is_kernel else tensor
        assert torch.equal(after[name], expected), name
        assert after[name].dtype == tensor.dtype, name


def test_the_index_and_the_table_are_made_from_the_folders(published: RunFolder) -> None:
    zoo = published.path.parent
    (entry,) = read_entries(zoo)
    assert read_index(zoo) == (entry,)
    assert entry.miou == published.read_results().own.miou
    assert entry.parameters == sum(
        tensor.numel() for name, tensor in read_safetensors(published.weights)[0].items()
        if not name.endswith(("running_mean", "running_var", "num_batches_tracked", "mean", "std"))
    )  # fmt: skip
    readme = (zoo.parent / "README.md").read_text()
    assert readme.startswith("# Networks")
    assert readme.endswith("<!-- end of zoo -->\n\nend\n")
    assert "old" not in readme
    assert f"| [`zoo/{NAME}`](zoo/{NAME}/README.md) | `streets`, 11 classes | {entry.miou:.4f} |" in readme
    assert put_table(readme, (entry,)) == readme
    (zoo / ".later.tmp").mkdir()
    (zoo / ".later.tmp" / "config.yaml").touch()  # one that is being written
    assert write_index(zoo) == (entry,)


def test_zoo_is_found_from_everywhere(published: RunFolder, elsewhere: Path) -> None:
    assert find_run(f"zoo/{NAME}") == published.path
    assert find_run("runs/x") == Path("runs/x")
    (elsewhere / "zoo" / "mine").mkdir(parents=True)
    assert find_run("zoo/mine") == Path("zoo/mine"), "a path that exists is what it says"
    assert nearest_runs(find_run("zoo/other")) == f"; the zoo has {NAME}"


def test_eval_gives_the_cards_figure_and_leaves_the_zoo_alone(published: RunFolder, elsewhere: Path, cli) -> None:
    before, own = listing(published.path.parent), published.read_results().own
    assert cli("eval", f"run=zoo/{NAME}", "accelerator=cpu") == pytest.approx(own.miou, abs=1e-4)
    cli("eval", f"run=zoo/{NAME}", "accelerator=cpu", "inference.flip=true")
    records = RunFolder(elsewhere / "runs" / "zoo" / NAME).read_results().evaluations
    assert [each.protocol.inference for each in records.values()] == ["whole at own size"] * 2 + [
        "whole at own size, flip"
    ]
    assert listing(published.path.parent) == before


def test_predict_and_draw_write_beside(published: RunFolder, elsewhere: Path, cli) -> None:
    before = listing(published.path.parent)
    Image.new("RGB", (61, 45)).save(elsewhere / "photo.png")
    assert cli("predict", f"run=zoo/{NAME}", "input=photo.png", "accelerator=cpu") == 1
    outputs = elsewhere / "runs" / "zoo" / NAME
    assert (outputs / "predictions" / "photo" / "labels" / "photo.png").is_file()
    assert cli("draw", f"folder=zoo/{NAME}") == 8  # four for each split
    assert {path.name for path in outputs.glob("*.png")} >= {"classes.png", "confusion_test.png"}
    assert listing(published.path.parent) == before


def test_export_writes_beside(published: RunFolder, elsewhere: Path, cli, fails) -> None:
    before = listing(published.path.parent)
    path = cli("export", f"run=zoo/{NAME}", "format=safetensors")
    assert path == Path("runs") / "zoo" / NAME / "network.safetensors"
    (first, *_) = json.loads((elsewhere / f"{path}.json").read_text())["checks"]
    assert (first["agreement"], first["largest_difference"]) == (1, 0)
    assert listing(published.path.parent) == before
    assert fails("export", f"run=zoo/{NAME}", "format=onx").startswith("format=onx: must be one of onnx, openvino")
    assert "must end in .pt2" in fails("export", f"run=zoo/{NAME}", "format=torch_export", "out=a.onnx")


def test_outputs_follow_a_network_that_was_published_anew(published: RunFolder, elsewhere: Path, tmp_path) -> None:
    copy = RunFolder(tmp_path / "zoo" / NAME)
    copy.path.mkdir(parents=True)
    for path in published.path.iterdir():
        (copy.path / path.name).write_bytes(path.read_bytes())
    outputs, own = output_folder(copy), published.read_results().own
    outputs.add_evaluation(replace(own, protocol=replace(own.protocol, inference="flip")), finished=False)
    assert len(output_folder(copy).read_results().evaluations) == 3
    copy.results.unlink()
    copy.add_evaluation(replace(own, miou=0.123), finished=True)
    assert [each.miou for each in output_folder(copy).read_results().evaluations.values()] == [0.123]


def test_init_from_takes_all_of_it_and_hands_leakage_on(run: RunFolder, published: RunFolder, elsewhere: Path) -> None:
    origin = find_origin(f"zoo/{NAME}")
    assert origin.classes == find_origin(str(run.path)).classes
    assert origin.path == str(published.weights)
    config = load_config(published.config)
    architecture = instantiate(config.task).network.architecture
    transfer = plan_transfer(architecture, origin, set())
    assert transfer.has_encoder
    assert [*transfer.missing, *transfer.unused, *transfer.reshaped] == []
    assert all(tensor.dtype != torch.float16 for tensor in transfer.loaded.values())
    note_leakage(elsewhere, ["new"], Path(origin.path))
    assert leakage_after(elsewhere).trained == leakage_after(run.path).trained | {"new"}
    for given, hint in (("zoo/streets_smal", f"the zoo has {NAME}"), ("zoo", f"the zoo has {NAME}")):
        with pytest.raises(UserError, match=rf"init_from={given}: .*{hint}"):
            find_origin(given)


def test_averages_read_it(published: RunFolder) -> None:
    config = load_config(published.config)
    data = build_data(config.datamodule, instantiate(config.datamodule.dataset, _convert_="all"), augmentation=None)
    member = read_member(published, instantiate(config.task), data)
    assert member.checkpoint.epoch == 3
    assert {tensor.dtype for tensor in member.network.state_dict().values()} == {torch.float32, torch.int64}


def test_damaged_or_foreign_weights_are_refused(published: RunFolder, tmp_path: Path) -> None:
    content = published.weights.read_bytes()
    for position in (9, len(content) // 2, len(content) - 1):
        path = tmp_path / f"{position}.safetensors"
        path.write_bytes(content[:position] + bytes([content[position] ^ 0x5A]) + content[position + 1 :])
        with pytest.raises(UserError, match=r"safetensors: (is damaged|not a weights file)"):
            read_weights(path)
    (tmp_path / "cut.safetensors").write_bytes(content[:-9])
    with pytest.raises(UserError, match="cannot be read as a checkpoint of this program"):
        load_weights(torch.nn.Linear(1, 1), tmp_path / "cut.safetensors")
    with pytest.raises(UserError, match="does not fit the network"):
        load_weights(torch.nn.Linear(1, 1), published.weights)


def test_a_foreign_class_in_a_zoo_is_not_called(published: RunFolder, tmp_path: Path) -> None:
    text = published.config.read_text().replace("src.task.SegmentationTask", "os.system")
    for name in (published.weights.name, published.results.name):
        (tmp_path / name).write_bytes((published.path / name).read_bytes())
    (tmp_path / "config.yaml").write_text(text)
    with composed("eval", f"run={tmp_path}") as cfg, pytest.raises(UserError, match="is not a class that belongs"):
        load_run(cfg)


@pytest.mark.parametrize(("value", "fault"), [(7e4, "beyond the range"), (math.nan, "not finite"), (math.inf, "not")])
def test_values_that_16_bits_cannot_hold_are_refused(value: float, fault: str) -> None:
    weight = torch.zeros(30, 30)
    weight[3, 4] = value
    with pytest.raises(UserError, match=rf"a value of head.weight .*{fault}"):
        to_half({"head.weight": weight})
    if math.isfinite(value):
        assert to_half({"head.bias": weight[3]})["head.bias"][4] == value, "vectors stay in 32 bits"


def test_files_of_others_have_no_digest(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"a": torch.ones(2, dtype=torch.bfloat16)}, tmp_path / "a.safetensors")
    assert read_weights(tmp_path / "a.safetensors")["a"].dtype == torch.float32
    write_safetensors(tmp_path / "b.safetensors", {"b": torch.tensor(3)}, {"epoch": "2"})
    state, notes = read_safetensors(tmp_path / "b.safetensors")
    assert state["b"] == 3
    assert notes["epoch"] == "2"


def test_what_is_not_published(run: RunFolder, published: RunFolder, tmp_path: Path, monkeypatch) -> None:
    for name in ("A", "a b", "../x", ".hidden", "ab", "x" * 70, None):
        with pytest.raises(UserError, match=r"^name="):
            check_name(name, tmp_path)
    with pytest.raises(UserError, match=f"name={NAME}: is in the zoo already"):
        check_name(NAME, published.path.parent)
    zoo = tmp_path / "zoo"
    with composed("publish", *words(published, zoo)) as cfg, pytest.raises(UserError, match="is published already"):
        plan_publication(cfg)
    foreign = f"checkpoint={published.weights}"
    with composed("publish", *words(run, zoo), foreign) as cfg, pytest.raises(UserError, match="whose records it"):
        plan_publication(cfg)
    with composed("publish", *words(run, zoo)) as cfg:
        plan = plan_publication(cfg)
    for constant, value, message in (
        ("LARGEST", 1000, "the zoo takes 0 MB at most"),
        ("MOST_LOST", -1, "16 bits cost"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(publishing, constant, value)
            with pytest.raises(UserError, match=message):
                publishing.publish(plan)
        assert not list(zoo.iterdir()), "nothing is left"
    changed = run.read_results()
    monkeypatch.setattr(RunFolder, "read_results", lambda _: replace(changed, evaluations={"x": other_data(changed)}))
    with pytest.raises(UserError, match="give the data of the training"):
        publishing.publish(plan)


def other_data(results):
    return replace(results.own, protocol=replace(results.own.protocol, data="another"))


def test_the_configuration_loses_its_places() -> None:
    config = OmegaConf.create(
        {
            "callbacks": {"x": 1}, "logger": {}, "averaging": {}, "init_source": {"path": "/a"}, "runs": "/r",
            "run_dir": "/r/x", "name": "x", "init_from": "/home/me/runs/source", "backbone": {"weights": "/a/w.pth"},
            "datamodule": {"pack": "/p", "dataset": {"root": "/d", "parts": [{"root": "~/d"}]}},
            "data": {"root": "../d", "pack": None, "name": "camvid"},
        }
    )  # fmt: skip
    cleaned = clean_config(config, "net")
    assert not places(cleaned)
    assert cleaned["datamodule"] == {"pack": "auto", "dataset": {"root": None, "parts": [{"root": None}]}}
    assert cleaned["data"] == {"root": None, "pack": None, "name": "camvid"}
    assert (cleaned["init_from"], cleaned["backbone"], cleaned["name"]) == ("source", {"weights": "w.pth"}, "net")
    assert config.data.root == "../d"
    assert describe_start(config) == "`source`, as far as they fit"
    config.init_from = None
    assert (
        describe_start(OmegaConf.merge(config, {"backbone": {"name": "b"}})) == "backbone `b`: `w.pth`; the rest random"
    )


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("src.train data.root=/home/me/d runs=/tmp/x seed=1", "src.train data.root=DIR seed=1"),
        ("src.train data.root='/home/my name/d' data.pack=~/p a=[1,2]", "src.train data.root=DIR a=[1,2]"),
        ("src.train init_from=../runs/a experiment=r1/x", "src.train init_from=a experiment=r1/x"),
        ("src.aggregate runs=[/a/b,/c/d] out=C:\\x\\y", "src.aggregate runs=[b,d] out=y"),
        ('x \'a=["optimizer.lr=3e-3","data.root=/d/e"]\'', 'x \'a=["optimizer.lr=3e-3","data.root=e"]\''),
    ],
)
def test_commands_lose_their_places(given: str, expected: str) -> None:
    assert without_places(given) == expected


def test_notes_are_a_text_or_a_file(tmp_path: Path) -> None:
    (tmp_path / "n.md").write_text("From a file.")
    assert read_notes(str(tmp_path / "n.md")) == "From a file."
    assert read_notes("Sees no trams.") == "Sees no trams."
    assert read_notes(None) == ""
    with pytest.raises(UserError, match="notes="):
        read_notes(str(tmp_path / "none.md"))


def test_a_network_of_files_asks_for_its_data(camvid: Path, tmp_path: Path, cli, fails, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = make_run(tmp_path / "runs", *SMALL, "data=camvid", f"data.root={camvid}")
    zoo, moved = tmp_path / "zoo", tmp_path / "another place"
    figure = cli("publish", f"run={run.path}", f"name={NAME}", f"zoo={zoo}", "accelerator=cpu")
    assert str(tmp_path) not in (zoo / NAME / "config.yaml").read_text()
    assert "CC BY-NC 4.0" in (zoo / NAME / "README.md").read_text()
    call = ("eval", f"run={zoo / NAME}", "accelerator=cpu")
    assert "does not say where its data are; give data.root=DIR" in fails(*call)
    camvid.rename(moved)
    assert cli(*call, f"data.root='{moved}'") == pytest.approx(figure, abs=1e-4)
    assert {path.name for path in zoo.iterdir()} == {NAME, "index.json"}


def test_the_time_of_a_run_is_known_unless_it_was_killed(run: RunFolder, tmp_path: Path) -> None:
    facts = summarise(run)
    assert facts.minutes is not None
    assert facts.minutes < 1
    assert facts.weights == "float32"
    (tmp_path / "config.yaml").write_bytes(run.config.read_bytes())
    environment = run.read_environment()
    del environment["sessions"][0]["ended"]
    (tmp_path / "environment.json").write_text(json.dumps(environment))
    assert summarise(RunFolder(tmp_path)).minutes is None


@pytest.mark.e2e
def test_publish_then_train_and_average_from_the_zoo(run: RunFolder, tmp_path: Path, cli, fails, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(zoo_module, "ZOO", tmp_path / "clone" / "zoo")
    (tmp_path / "clone" / "zoo").mkdir(parents=True)
    figure = cli("publish", f"run={run.path}", f"name={NAME}", "accelerator=cpu")
    before = listing(tmp_path / "clone")
    assert cli("eval", f"run=zoo/{NAME}", "accelerator=cpu") == pytest.approx(figure, abs=1e-4)
    cli("train", *TINY, "data.dataset.num_test=2", f"init_from=zoo/{NAME}", "runs=runs", "name=next")
    assert "next" in {path.name for path in Path("runs").iterdir()}
    arguments = ["select_on=official_val", "batchnorm_images=2", "accelerator=cpu", "top_k=2"]
    cli("aggregate", f"runs=[zoo/{NAME},runs/next]", *arguments)
    assert len(list(Path("runs/zoo").glob("aggregate-*/results.json"))) == 1
    assert listing(tmp_path / "clone") == before
    assert f"the zoo has {NAME}" in fails("predict", "run=zoo/x", "input=a.png")
