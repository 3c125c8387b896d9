"""The account of a study, from made-up answers whose truth is known, and from runs on disk."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from statsmodels.stats.multitest import multipletests
from typer.testing import CliRunner

from conftest import make_rows
from polyprompt.analysis.account import Arm, adjusted, are_paired, contrasts, correlations
from polyprompt.analysis.facts import in_group, language_facts, relative_tokens
from polyprompt.analysis.groups import adjusted as adjusted_groups
from polyprompt.analysis.groups import group_contrast, script_contrasts
from polyprompt.analysis.interactions import adjusted as adjusted_interactions
from polyprompt.analysis.interactions import interaction
from polyprompt.analysis.recommend import recommend
from polyprompt.analysis.reference import columns, compare, reference
from polyprompt.analysis.series import series
from polyprompt.analysis.sources import source_matrix
from polyprompt.cli.main import app
from polyprompt.errors import ConfigError, StoreError
from polyprompt.experiments.analyse import account_of
from polyprompt.experiments.cohort import Request
from polyprompt.experiments.config import build_study
from polyprompt.experiments.recommending import recommendations
from polyprompt.experiments.results import gather
from polyprompt.experiments.store import complete_runs
from polyprompt.experiments.study import run_study
from polyprompt.models.tiny import tiny_model

LANGUAGES = (
    "eng_Latn", "deu_Latn", "fra_Latn", "spa_Latn", "rus_Cyrl", "hin_Deva", "ben_Beng", "npi_Deva",
    "tam_Taml", "tel_Telu", "swh_Latn", "yor_Latn", "ibo_Latn", "zul_Latn", "arb_Arab", "arb_Latn",
    "zho_Hans", "zho_Hant", "fin_Latn", "est_Latn", "ind_Latn", "tur_Latn", "jpn_Jpan", "quy_Latn",
)  # fmt: skip
ITEMS = 120


def arm(title, accuracy, seed=0, seeds=2):
    """Answers that are right with each language's probability; items are equally hard in all."""
    rng = np.random.default_rng(seed)
    rows = []
    for run in range(seeds):
        hardness = np.random.default_rng(run).random(ITEMS)
        for code in LANGUAGES:
            noise = rng.normal(0, 0.02, ITEMS)
            right = hardness + noise < accuracy[code]
            rows += [
                (f"{title}{run}", None, code, str(i), "a", "a" if ok else "b", 10 + len(code))
                for i, ok in enumerate(right)
            ]
    names = ["run", "baseline", "language", "id", "label", "prediction", "tokens"]
    frame = pl.DataFrame(rows, schema=names, orient="row", schema_overrides={"baseline": pl.String})
    return Arm(title, frame, {f"{title}{run}": (run, run) for run in range(seeds)})


@pytest.fixture(scope="module")
def facts():
    return language_facts(LANGUAGES, ["eng_Latn"], "xlmr")


def falling(facts, slope, start=0.9):
    distance = np.nan_to_num(facts.values["genetic"])
    return {code: start - slope * d for code, d in zip(LANGUAGES, distance, strict=True)}


def test_accuracy_that_falls_with_distance_correlates_negatively(facts):
    found = correlations(arm("a", falling(facts, 0.5)), facts, ["eng_Latn"], {})
    one = found.pearson["genetic"]
    assert one.r < -0.95
    assert one.n == len(LANGUAGES) - 1
    assert found.with_source["genetic"].n == len(LANGUAGES)
    assert found.pearson["log_corpus"].n < one.n  # some sizes are not published
    assert found.at_chance == 0


def test_languages_at_chance_are_left_out_where_that_is_asked(facts):
    found = correlations(
        arm("a", falling(facts, 0.8)), facts, ["eng_Latn"], dict.fromkeys(LANGUAGES, 0.3)
    )
    assert found.at_chance > 3
    assert found.above_chance["genetic"].n == len(LANGUAGES) - 1 - found.at_chance


def test_a_setting_that_flattens_the_slope_is_told_from_one_that_lifts_everything(facts):
    steep, flat, high = (
        arm("steep", falling(facts, 0.5)),
        arm("flat", falling(facts, 0.2)),
        arm("high", falling(facts, 0.5, 0.95)),
    )
    found = {(c.first, c.second): c for c in contrasts([steep, flat, high], facts, ["eng_Latn"])}
    flatter = found["steep", "flat"]
    assert flatter.slopes["genetic"].change.low > 0.2
    assert flatter.gains["genetic"]["alone"].effects["distance"].value == pytest.approx(
        0.3, abs=0.05
    )
    assert len(flatter.better) > 5
    assert not flatter.worse
    higher = found["steep", "high"]
    assert higher.difference.mean == pytest.approx(0.05, abs=0.01)
    lifted, flattened = (c.slopes["genetic"].change.value for c in (higher, flatter))
    assert abs(lifted) < flattened / 4
    assert higher.p_items < 0.01
    assert higher.p_holm >= higher.p_items
    assert higher.p_seeds == 0.5  # two seeds that agree: 2 of 4 sign patterns


def test_settings_with_other_seeds_or_items_are_not_paired(facts):
    one, other = arm("a", falling(facts, 0.5)), arm("b", falling(facts, 0.5), seeds=3)
    assert not are_paired(one, other)
    fewer = Arm("c", one.predictions.filter(pl.col("id") != "3"), one.pairs)
    assert not are_paired(one, fewer)
    assert contrasts([one, other], facts, ["eng_Latn"]) == []


def test_groups_of_languages_are_contrasted(facts):
    before = falling(facts, 0.3)
    indic = ["Indo-Aryan", "Dravidian"]
    after = {
        code: value + (0.1 if in_group(code, indic) else -0.05) for code, value in before.items()
    }
    found = group_contrast(
        "paper A", (indic, ["Atlantic-Congo"]), (arm("a", before), arm("b", after))
    )
    assert found.sizes == (5, 4)
    assert found.gains[0] == pytest.approx(0.1, abs=0.02)
    assert found.difference.mean == pytest.approx(0.15, abs=0.02)
    assert found.difference.excludes_zero()
    assert found.p_languages < 0.05
    nothing = group_contrast("x", (["Uralic"], ["Nowhere"]), (arm("a", before), arm("b", after)))
    assert nothing is None


def test_two_scripts_of_one_language_are_compared_sentence_by_sentence(facts):
    values = falling(facts, 0.3) | {"arb_Arab": 0.8, "arb_Latn": 0.5}
    pairs = {(p.first, p.second): p for p in script_contrasts(arm("a", values))}
    assert set(pairs) == {("arb_Arab", "arb_Latn"), ("zho_Hans", "zho_Hant")}
    assert pairs["arb_Arab", "arb_Latn"].difference.mean == pytest.approx(-0.3, abs=0.04)
    assert not pairs["zho_Hans", "zho_Hant"].difference.excludes_zero()


def test_the_best_length_of_every_language_comes_with_its_doubt(facts):
    base = falling(facts, 0.3)
    lines = {
        1.0: base,
        10.0: {c: v + 0.06 for c, v in base.items()},
        30.0: {c: v - 0.05 for c, v in base.items()},
    }
    found = series("length", {v: arm(f"l{v}", a) for v, a in lines.items()}, facts, ["eng_Latn"])
    assert list(found.means) == [1.0, 10.0, 30.0]
    assert all(one.value == 10.0 for one in found.best.values())
    assert all(one.shares[10.0] > 0.9 for one in found.best.values())


def test_sources_have_row_and_column_effects(facts):
    base = falling(facts, 0.3)
    arms = {
        "eng": arm("e", base),
        "swh": arm("s", {c: v - 0.1 for c, v in base.items()}),
    }
    found = source_matrix(arms, {"eng": ("eng_Latn",), "swh": ("swh_Latn",)})
    assert found.rows["eng"].mean == pytest.approx(0.05, abs=0.01)
    assert found.rows["swh"].mean == pytest.approx(-0.05, abs=0.01)
    assert found.columns["eng_Latn"] > found.columns["quy_Latn"]
    assert set(found.best.values()) == {"eng"}
    assert found.residual < 0.02


def test_a_recommendation_learns_from_other_families(facts):
    """One setting is good near English, the other far from it; no single one is best."""
    rng = np.random.default_rng(0)
    distance = np.nan_to_num(facts.values["geographic"])
    truth = np.stack([0.8 - 0.6 * distance, 0.5 + 0.6 * distance], axis=1)
    dev, test = (truth + rng.normal(0, 0.02, truth.shape) for _ in range(2))
    predicted = language_facts(LANGUAGES, ["eng_Latn"], "xlmr", None, "predicted")
    found = recommend(["near", "far"], dev, test, predicted, ["eng_Latn"])
    assert len(found.languages) == len(LANGUAGES) - 1
    assert found.gain.low > 0
    assert found.mean("accuracy") > found.single + 0.02
    assert found.mean("oracle") >= found.mean("accuracy")
    with pytest.raises(ValueError, match="two settings and 8 target languages"):
        recommend(["near"], dev[:, :1], test[:, :1], predicted, ["eng_Latn"])


def test_a_recommendation_never_sees_its_own_family():
    """What a family's own dev split says does not change what is recommended for it."""
    facts = language_facts(LANGUAGES, ["eng_Latn"], None, None, "predicted")
    rng = np.random.default_rng(1)
    dev, test = rng.random((len(LANGUAGES), 3)), rng.random((len(LANGUAGES), 3))
    before = recommend(["a", "b", "c"], dev, test, facts, ["eng_Latn"])
    own = [i for i, family in enumerate(facts.families) if family == "Atlantic-Congo"]
    changed = dev.copy()
    changed[own] = rng.random((len(own), 3))
    after = recommend(["a", "b", "c"], changed, test, facts, ["eng_Latn"])
    for one, other in zip(before.languages, after.languages, strict=True):
        if facts.families[LANGUAGES.index(one.language)] == "Atlantic-Congo":
            assert one.setting == other.setting


def test_facts_that_are_unknown_stay_missing():
    facts = language_facts(["tum_Latn", "eng_Latn", "deu_Latn"], ["eng_Latn"], "bloom")
    assert np.isnan(facts.values["syntactic"][0])
    assert facts.values["syntactic"][1] == 0
    assert facts.seen[2] == 0
    assert np.isnan(facts.values["log_corpus"][2])
    several = language_facts(["npi_Deva"], ["eng_Latn", "hin_Deva"])
    alone = language_facts(["npi_Deva"], ["hin_Deva"])
    assert several.values["genetic"] == alone.values["genetic"]
    assert np.isnan(several.values["corpus"]).all()


def test_tokens_are_counted_beside_the_source(facts):
    one = arm("a", falling(facts, 0.5))
    frame = one.predictions.with_columns(
        pl.when(pl.col("language") == "tam_Taml").then(40).otherwise(20).alias("tokens")
    )
    found = relative_tokens(frame, LANGUAGES, ["eng_Latn"])
    assert found[LANGUAGES.index("tam_Taml")] == 2
    assert relative_tokens(frame, LANGUAGES, ["wol_Latn"]) is None


def test_printed_tables_are_those_of_the_paper():
    table = reference("philippy2024.table4")
    assert len(table) == 8
    assert sum(map(len, table.values())) == 272
    assert table["BLOOM-560M frozen"]["aka_Latn"] == (0.348, 0.0633)
    means = {name: np.mean([v for v, _ in column.values()]) for name, column in table.items()}
    assert means["XGLM-1.7B frozen"] == pytest.approx(0.7775, abs=1e-4)
    found = compare("ours", {"eng_Latn": 0.9, "xxx_Latn": 0.1}, "x", table["XGLM-564M frozen"])
    assert found.languages == 1
    assert found.differences["eng_Latn"] == pytest.approx(0.9 - 0.799)
    with pytest.raises(ConfigError, match="Did you mean 'philippy2024.table4'"):
        reference("philippy2024.tabel4")
    with pytest.raises(
        ConfigError, match="has no column 'XGLM-564M'. Did you mean 'XGLM-564M frozen'"
    ):
        columns("philippy2024.table4", "XGLM-564M")


def test_commands_write_what_they_show(toy_study):
    value = toy_study | {
        "targets": ["eng_Latn", "fra_Latn", "swh_Latn"],
        "arms": {"a": {}, "b": {"training.learning_rate": 0.5}},
        "contrasts": {"French": ["fra_Latn", "swh_Latn"]},
    }  # fmt: skip
    study = build_study(value, "toy")
    list(run_study(study))
    runner = CliRunner()
    shown = runner.invoke(app, ["analyse", str(study.folder), "--corpus", "xlmr"])
    assert shown.exit_code == 0, shown.output
    assert "b – a" in shown.output
    text = (study.folder / "account.md").read_text(encoding="utf-8")
    assert "Groups of languages" in text
    assert "| French | b – a | 1 / 1 |" in text
    beside = runner.invoke(
        app, ["compare", str(study.folder), "--with", "philippy2024.table4", "--column",
              "XGLM-564M frozen"],
    )  # fmt: skip
    assert beside.exit_code == 0, beside.output
    assert (study.folder / "beside_philippy2024.table4.md").is_file()
    wrong = runner.invoke(app, ["analyse", str(study.folder), "--corpus", "xlm"])
    assert "no corpus 'xlm'" in str(wrong.exception)
    few = runner.invoke(app, ["recommend", str(study.folder)])
    assert "evaluate=both" in str(few.exception)


def test_recommend_joins_studies_and_their_common_seeds(toy_study, toy_task, tmp_path):
    _, data = toy_task
    languages = (
        "eng_Latn", "fra_Latn", "deu_Latn", "hin_Deva", "ben_Beng", "yor_Latn", "swh_Latn",
        "zho_Hans", "tam_Taml", "tel_Telu", "fin_Latn", "arb_Arab",
    )  # fmt: skip
    for split, number in (("train", 6), ("dev", 3), ("test", 4)):
        pl.DataFrame(make_rows(split, number, languages, 5)).write_parquet(
            data / f"{split}.parquet"
        )
    value = toy_study | {"evaluate": "both", "baselines": False}
    one = build_study(value | {"name": "one", "arms": {"a": {"parts.task.length": 3}, "b": {"parts.task.length": 5}},
                               "layout": "{text}{task}"}, "toy")  # fmt: skip
    two = build_study(value | {"name": "two", "arms": {"c": {"training.learning_rate": 0.5}},
                               "grid": {"seed": [1, 2]}}, "toy")  # fmt: skip
    for study in (one, two):
        list(run_study(study))
    folders = [str(one.folder), str(two.folder)]
    shown = CliRunner().invoke(app, ["recommend", *folders])
    assert shown.exit_code == 0, shown.output
    assert "oracle" in shown.output
    settings = gather([run for folder in folders for run in complete_runs(Path(folder))])
    found = recommendations(settings, None)
    assert len(found.languages) == 11
    common = [
        next(run for run, r in zip(s.runs, s.records, strict=True) if r["train_seed"] == 1)
        for s in settings
    ]
    for language in found.languages:
        of_setting = [
            run.predictions()
            .filter(pl.col("language") == language.language)
            .select((pl.col("prediction") == pl.col("label")).mean())
            .item()
            for run in common
        ]
        assert language.oracle == pytest.approx(max(of_setting))
    apart = [s for s in settings if s.config["arm"] == "c"]
    left = replace(apart[0], records=({**apart[0].records[0], "train_seed": 7},) * 2)
    with pytest.raises(StoreError, match="no seeds in common"):
        recommendations([settings[0], left], None)


def test_arms_of_different_models_and_languages_are_analysed_apart(toy_study, tmp_path):
    """As in paper A's Table 4: every model in the languages it supports, compared with itself."""
    from polyprompt.models.tiny import tiny_model, tiny_tokenizer

    other = tmp_path / "other"
    tiny_model("bert", seed=1).save_pretrained(other)
    tiny_tokenizer().save_pretrained(other)
    one, two = {"targets": ["eng_Latn", "fra_Latn"]}, {"backbone.name": str(other)}
    value = toy_study | {
        "arms": {
            "one": one, "one fast": one | {"training.learning_rate": 0.5},
            "two": two, "two fast": two | {"training.learning_rate": 0.5},
        }
    }  # fmt: skip
    study = build_study(value, "toy")
    list(run_study(study))
    shown = CliRunner().invoke(app, ["analyse", str(study.folder), "--reference", "one fast"])
    assert shown.exit_code == 0, shown.exception
    text = (study.folder / "account.md").read_text(encoding="utf-8")
    assert text.count("Settings compared") == 2
    assert "| one – one fast |" in text
    assert "| two fast – two |" in text
    none = CliRunner().invoke(app, ["compare", str(study.folder), "--with", "philippy2024.table4"])
    assert none.exit_code == 0, none.exception


def test_groups_without_languages_are_refused(toy_study):
    for sides, words in (
        ([["Indo-Arian"], ["Atlantic-Congo"]], "'Indo-Arian'. Did you mean 'Indo-Aryan'"),
        ([["Indo-European"], ["Indo-Aryan"]], "in both groups"),
    ):
        with pytest.raises(ConfigError, match=words):
            build_study(toy_study | {"contrasts": {"x": sides}}, "toy")


def test_holm_is_over_all_settings_that_are_compared(facts):
    slopes = (0.5, 0.49, 0.3, 0.2)
    arms = [arm(str(slope), falling(facts, slope)) for slope in slopes]
    apart = [*contrasts(arms[:2], facts, ["eng_Latn"]), *contrasts(arms[2:], facts, ["eng_Latn"])]
    together = adjusted(apart)
    p = [one.p_items for one in apart]
    assert [one.p_holm for one in together] == pytest.approx(
        multipletests(p, method="holm")[1].tolist()
    )


def test_sources_are_in_no_group_and_named_contrasts_are_adjusted_together(facts):
    one, other = (arm(n, falling(facts, slope)) for n, slope in (("one", 0.5), ("other", 0.3)))
    found = group_contrast("g", (["Indo-European"], ["Atlantic-Congo"]), (one, other))
    without = group_contrast(
        "g", (["Indo-European"], ["Atlantic-Congo"]), (one, other), ["eng_Latn"]
    )
    assert (found.sizes[0], without.sizes[0]) == (found.sizes[0], found.sizes[0] - 1)
    p = [0.01, 0.04, float("nan")]
    adjusted = adjusted_groups([replace(without, p_languages=value) for value in p])
    assert [one.p_holm for one in adjusted[:2]] == pytest.approx([0.02, 0.04])
    assert np.isnan(adjusted[2].p_holm)


def test_two_gains_are_compared(facts):
    """As the difference of the two contrasts, with an interval and p of its own."""
    arms = [
        arm(name, falling(facts, 0.3, start), seed=place)
        for place, (name, start) in enumerate(
            {"plain": 0.7, "prompt": 0.8, "plain, cut": 0.6, "prompt, cut": 0.85}.items()
        )
    ]
    pairs = (("plain", "prompt"), ("plain, cut", "prompt, cut"))
    found = interaction("cut", pairs, arms)
    alone = [
        contrasts([arms[i], arms[i + 1]], facts, ["eng_Latn"])[0].difference.mean for i in (0, 2)
    ]
    assert found.gains == pytest.approx(alone)
    assert found.difference.mean == pytest.approx(alone[1] - alone[0])
    assert found.difference.mean == pytest.approx(0.15, abs=0.02)
    assert found.difference.excludes_zero()
    assert found.p_items < 0.01
    assert found.p_seeds == 0.5
    same = interaction("same", (pairs[0], pairs[0]), arms)
    assert same.difference.mean == 0
    assert same.p_items == 1
    together = adjusted_interactions([found, same])
    expected = multipletests([found.p_items, same.p_items], method="holm")[1]
    assert [one.p_holm for one in together] == pytest.approx(expected)
    assert interaction("x", (pairs[0], ("plain", "other")), arms) is None
    other = arm("plain, cut", falling(facts, 0.3), seeds=3)
    assert interaction("x", pairs, [arms[0], arms[1], other, arms[3]]) is None


def test_an_interaction_is_looked_for_in_one_backbone_and_missed_once(toy_study, tmp_path):
    """Two backbones are two groups of settings: what one has, the other does not lack."""
    shutil.copytree(toy_study["backbone"]["name"], tmp_path / "other")
    model = tiny_model("bert", seed=3)
    model.save_pretrained(tmp_path / "other")
    names = [toy_study["backbone"]["name"], str(tmp_path / "other")]
    grid = {"backbone.name": names, "parts.task.length": [2, 3], "seed": [0]}
    value = toy_study | {"grid": grid, "layout": "{text}{task}", "baselines": False}
    study = build_study(value, "toy")
    list(run_study(study))
    settings = gather(list(complete_runs(study.folder)))
    one, other = (
        [s.title for s in settings if s.records[0]["backbone_identity"] == identity]
        for identity in dict.fromkeys(s.records[0]["backbone_identity"] for s in settings)
    )
    asked = {
        "there": (tuple(one), tuple(one)),
        "between": (tuple(one), tuple(other)),
        "misspelt": (tuple(one), (one[0], one[1] + "x")),
    }
    tables, notes = account_of(settings, Request(interactions=asked))
    (table,) = (table for table in tables if table.title.startswith("Interactions"))
    assert [row[0] for row in table.rows] == ["there"]
    left_out = [note for note in notes if note.startswith("The interaction")]
    assert len(left_out) == 2
    assert "'between' is left out: its settings have not the same backbone" in left_out[0]
    assert f"there is no setting '{one[1]}x'. Did you mean '{one[1]}'?" in left_out[1]


def test_settings_are_compared_on_the_seeds_they_share(toy_study):
    study = build_study(toy_study | {"grid": {"parts.task.length": [2, 3, 4], "seed": [0, 1]},
                                     "layout": "{text}{task}", "baselines": False}, "toy")  # fmt: skip
    list(run_study(study))
    folders = list(complete_runs(study.folder))
    first = next(f for f in folders if f.config()["parts"]["task"]["length"] == 2)
    tables, notes = account_of(gather([f for f in folders if f is not first]), Request())
    titles = [table.title for table in tables]
    compared = next(t for t in tables if t.title.startswith("Settings compared"))
    assert len(compared.rows) == 3
    assert any(title.startswith("Mean over languages by parts.task.length") for title in titles)
    assert notes[0].startswith("2 runs have seeds that not all settings have")
