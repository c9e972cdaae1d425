"""Records of earlier versions: read, and completed so that they stand beside today's."""

import json
import shutil
from pathlib import Path

import pytest

from backbones.images.normalisation import HALF, IMAGENET
from backbones.training.settings import deciding_settings, protocol
from benchmarks.planning.recipe import load_recipe
from benchmarks.planning.records import complete, load_records
from results import Record, build_table
from results.summary import to_frame
from tasks.registry import RECIPES, TASKS
from tests.support.results_examples import make_record

OLD = Path(__file__).parents[2] / "support/record_0.1.json"
"""What a run of the demo's detection left behind before records had a protocol of their own."""


@pytest.fixture
def old() -> Record:
    return Record.from_json(OLD.read_text())


def test_an_older_record_gets_its_table_and_the_protocol_that_its_recipe_has_today(old: Record) -> None:
    completed = complete(old)
    assert (old.table, old.protocol) == ("", {})
    assert completed.table == "coco"
    assert (completed.declared, completed.parameters) == ({}, None)
    assert to_frame([completed])["parameters"].isna().all()
    recipe = load_recipe(
        "mini_detection", ["precision=bf16", "optimizer.batch_size=8", "schedule.iterations=400"], {"detection"}
    ).recipe
    assert completed.protocol == protocol(deciding_settings(recipe))
    assert completed.normalisation == IMAGENET.as_dict()
    renewed = {"table", "protocol", "recipe_settings", "normalisation"}
    assert completed.model_dump(exclude=renewed) == old.model_dump(exclude=renewed)


@pytest.mark.parametrize("task", RECIPES)
def test_a_record_of_today_has_nothing_to_be_completed(task: str) -> None:
    """results.csv and load_results gave one run two protocols."""
    recipe = load_recipe({"pretraining": "mae_vit_mini"}.get(task, f"mini_{task}"), [], {task}).recipe
    record = make_record(
        task=task,
        table=TASKS[task].table_of("own") if task in TASKS else "",
        dataset="own",
        recipe_settings=recipe.model_dump(mode="json"),
        protocol=protocol(deciding_settings(recipe)),
        evaluation_images=10,
        normalisation=IMAGENET.as_dict(),
        pretrain_data="IN1K",
    )
    assert complete(record) is record


def test_a_protocol_that_holds_neutral_settings_is_as_todays(old: Record) -> None:
    lean = complete(old).protocol
    whole = lean | {"model.position_embeddings": '"loaded"', "model.patch_resampling": '"pseudo_inverse"'}
    assert complete(old.model_copy(update={"protocol": whole})).protocol == lean
    other = lean | {"model.position_embeddings": '"sincos"'}
    assert complete(old.model_copy(update={"protocol": other})).protocol == other


@pytest.mark.parametrize(
    ("then", "today"),
    [("norms", "norms_and_positions"), ("vectors", "one_dimensional"), ("nothing", "nothing")],
)
def test_a_setting_that_was_renamed_is_read_under_its_new_name(old: Record, then: str, today: str) -> None:
    settings = old.recipe_settings | {"optimizer": old.recipe_settings["optimizer"] | {"spare": then}}
    completed = complete(old.model_copy(update={"recipe_settings": settings}))
    assert completed.protocol["optimizer.no_weight_decay"] == f'"{today}"'
    assert "optimizer.spare" not in completed.protocol


def test_a_deviation_is_told_under_its_settings_new_name(old: Record) -> None:
    told = ["augment.flip=0.0 (reference 0.5)", "optimizer.spare=nothing (reference norms)"]
    completed = complete(old.model_copy(update={"deviations": told}))
    assert completed.deviations == [told[0], "optimizer.no_weight_decay=nothing (reference norms_and_positions)"]


def test_the_backbones_own_normalisation_is_called_so_in_deviations() -> None:
    others = ["inference.crop_ratio=0.875 (reference None)", "schedule.epochs=25 (reference 100)"]
    told = [*others, "model.mean=[0.5, 0.5, 0.5] (reference None)", "model.std=[0.5, 0.5, 0.5] (reference None)"]
    own = [text.replace("None", "the backbone's own") for text in told[2:]]
    assert complete(make_record(deviations=told)).deviations == [*others, *own]


@pytest.mark.parametrize("optimizer", [None, "adamw", []])
def test_a_foreign_optimizer_is_left_alone(old: Record, optimizer: object) -> None:
    foreign = old.model_copy(update={"recipe_settings": old.recipe_settings | {"optimizer": optimizer}})
    assert complete(foreign).recipe_settings["optimizer"] == optimizer


LATER: dict[str, dict[str, str]] = {
    "classification": {"inference.crop_ratio": "null"},
    "detection": {"model.patch_resampling": '"pseudo_inverse"', "model.position_embeddings": '"loaded"'},
    "segmentation": {"model.adapter": '"fpn"', "model.patch_resampling": '"pseudo_inverse"'},
    "pretraining": {"augment.crop_tries": "1"},
}
"""By task, the settings that came later, as the runs before them had them."""


@pytest.mark.parametrize("task", LATER)
def test_a_setting_that_came_later_stands_nowhere_at_its_neutral_value(task: str) -> None:
    """So that numbers made without it are ranked beside those made with it at that value, and with no other."""
    before, later = {"optimizer.lr": "0.1"}, LATER[task]
    assert complete(make_record(task=task, protocol=before | later)).protocol == before
    (section,) = {setting.split(".")[0] for setting in later}
    values = {setting.split(".")[1]: json.loads(then) for setting, then in later.items()}
    for own in ({}, {section: {"flip": 0.5}}, {section: {"flip": 0.5, **values}}):
        settings = {"optimizer": {"lr": 0.1}, **own}
        completed = complete(make_record(task=task, recipe_settings=settings))
        assert completed.protocol == before | ({f"{section}.flip": "0.5"} if own else {})
        assert completed.recipe_settings == settings
    with_them = before | dict.fromkeys(later, "0.5")
    assert complete(make_record(task=task, protocol=with_them)).protocol == with_them
    foreign = make_record(task=task, recipe_settings={section: "theirs"})
    assert complete(foreign).recipe_settings == {section: "theirs"}


def test_a_record_that_has_its_protocol_stays_as_it_is() -> None:
    for record in (
        make_record(
            protocol={"optimizer.lr": "0.1", "inference.crop_ratio": "0.875"},
            normalisation=HALF.as_dict(),
            evaluation_images=50_000,
        ),
        make_record(
            task="detection",
            table="coco",
            dataset="mini-coco",
            protocol={"model.patch_resampling": '"bicubic"', "model.position_embeddings": '"sincos"'},
            normalisation=HALF.as_dict(),
        ),
        make_record(task="depth", table="depth"),
    ):
        assert complete(record) is record


@pytest.mark.parametrize(("dataset", "images"), [("ade20k", 2_000), ("coco2017", 5_000), ("mini-ade20k", None)])
def test_a_known_data_set_of_an_earlier_version_has_its_published_number_of_images(
    dataset: str, images: int | None
) -> None:
    """Before names had to be earned, 400 images stood as ADE20K beside the paper's numbers; now they are marked."""
    completed = complete(make_record(task="segmentation", dataset=dataset, n_eval=400))
    assert completed.evaluation_images == images
    assert bool(completed.evaluated_part(completed.metrics[0])) is (images is not None)
    assert complete(make_record(task="pretraining", dataset=dataset)).evaluation_images is None


@pytest.mark.parametrize(
    ("task", "dataset", "table"),
    [
        ("classification", "imagenet1k", "imagenet"),
        ("classification", "photos", "transfer"),
        ("classification", "inat2017", "transfer"),
        ("detection", "coco2017", "coco"),
        ("detection", "mini-coco", "coco"),
        ("segmentation", "ade20k", "ade20k"),
        ("segmentation", "mini-ade20k", "ade20k"),
    ],
)
@pytest.mark.parametrize("stated", ["", "of another suite", "imagenet"])
def test_a_record_without_a_table_of_the_papers_gets_its_tasks(
    task: str, dataset: str, table: str, stated: str
) -> None:
    assert complete(make_record(task=task, dataset=dataset, table=stated)).table == table


def test_sections_that_decide_nothing_take_no_part(old: Record) -> None:
    changed = old.recipe_settings | {
        "runtime": {"workers": 3},
        "evaluation": {},
        "data": {"train_json": "other.json"},
        "source": "elsewhere",
        "expect": {"AP_box": 1.0},
    }
    assert complete(old.model_copy(update={"recipe_settings": changed})).protocol == complete(old).protocol


def test_a_pretraining_belongs_to_no_table(old: Record) -> None:
    completed = complete(old.model_copy(update={"task": "pretraining"}))
    assert completed.table == ""
    assert completed.protocol == complete(old).protocol


def test_an_older_store_is_tabled(old: Record, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        shutil.copy(OLD, tmp_path / name / "record.json")
    records = [record for _, record in load_records([tmp_path])]
    (block,) = build_table(records, "coco").blocks
    assert block.title.startswith("mini-coco")
    (row,) = block.rows
    assert [cell.value for cell in row.cells] == [  # type: ignore[union-attr]
        metric.value for metric in old.metrics if metric.name in ("AP_box", "AP_mask")
    ]
