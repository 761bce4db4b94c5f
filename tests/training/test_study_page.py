"""The study's arithmetic against values by hand, its verdicts, and its page, which follows from the JSON alone."""

import copy
import io
import json
import math
import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgevl.bench.stats import geometric_interval, t_interval
from edgevl.errors import InputError
from edgevl.training.study import claims
from edgevl.training.study.arms import ARMS
from edgevl.training.study.intervals import (
    bootstrap_difference,
    calibration_error,
    crossing,
)
from edgevl.training.study.page import publish, render
from edgevl.training.study.plots import figures
from edgevl.training.study.preset import load_preset
from edgevl.training.study.results import SCHEMA, load_results
from edgevl.training.study.view import View

DOCS = Path(__file__).parents[2] / "docs"


def test_student_interval_by_hand():
    found = t_interval([1.0, 2.0, 3.0])  # standard deviation 1, t = 4.303
    assert found["mean"] == 2.0 and found["n"] == 3
    assert found["ci95"] == pytest.approx([2 - 4.303 / math.sqrt(3), 2 + 4.303 / math.sqrt(3)])
    assert t_interval([5.0]) == {"mean": 5.0, "ci95": None, "n": 1}


def test_factors_are_averaged_as_logarithms():
    found = geometric_interval([2.0, 8.0])
    assert found["mean"] == pytest.approx(4.0)
    low, high = found["ci95"]
    assert low * high == pytest.approx(16.0) and high == pytest.approx(4 * math.exp(12.706 * math.log(4) / 2 / 1))


def test_bootstrap_over_samples_keeps_pairs():
    ours, theirs = np.ones((2, 50), bool), np.ones((2, 50), bool)
    theirs[:, :10] = False
    low, high = bootstrap_difference(ours, theirs)
    assert 0.05 < low < 0.2 < high < 0.35  # ten of fifty samples differ; binomial standard error 0.057
    assert bootstrap_difference(ours, ours) == [0.0, 0.0]


def test_calibration_error_by_hand():
    confidence = np.array([0.9, 0.9, 0.5, 0.5])
    correct = np.array([True, False, True, True])
    assert calibration_error(confidence, correct, bins=10) == pytest.approx(0.5 * 0.4 + 0.5 * 0.5)
    assert calibration_error(np.array([1.0]), np.array([True])) == 0.0  # 1.0 falls into the last bin


def test_crossing_is_linear_between_points_and_censored():
    curve = [(10, 0.2), (20, 0.4), (30, 0.3), (40, 0.6)]
    assert crossing(curve, 0.3) == pytest.approx(15.0)
    assert crossing(curve, 0.1) == 10
    assert crossing(curve, 0.5) == pytest.approx(30 + 10 * 2 / 3)
    assert crossing(curve, 0.7) is None


def made_up(gain: float = 0.1, seeds: int = 3, latency: float = 12.0) -> dict:
    """Results of the quick preset as they would look if every arm were better than `language` by `gain`."""
    preset = json.loads(load_preset("quick").model_dump_json()) | {"seeds": [*range(seeds)], "test_samples": 16}
    runs: dict = {"once/blind/0": {split: {"all": 0.3, "color": 0.2} for split in ("test", "test_style", "test_pairs")}}
    for arm in preset["arms"]:
        for seed in preset["seeds"]:
            score = 0.4 + 0.01 * seed + {"language": 0.0, "language_1000": 0.0, "none": -0.2}.get(arm, gain)
            zero = dict.fromkeys(("text_to_image_r1", "image_to_text_r1"), 0.1)
            runs[f"{arm}/pretrain/{seed}"] = {"steps": 100, "macs_per_step": 200, "zero_shot": zero, "curve": []}
            for task in ARMS[arm].tasks:
                run = {"steps": 40, "score": score, "macs_per_step": 100, "curve": [[20, score / 2], [40, score]]}
                split = {"accuracy": score, "calibration_error": 0.05, "correct": "ff0f"}
                split |= {"per_kind": {"color": [score, 9]}, "per_size": {"small": [score, 4], "large": [score, 5]}}
                run["splits"] = dict.fromkeys(("test", "test_style", "test_pairs"), split)
                runs[f"{arm}/{task}/{seed}"] = run
            found = {"text_to_image_r1": score / 2, "image_to_text_r1": score}
            runs.get(f"{arm}/retrieval/{seed}", {})["retrieval"] = found
    worst = {"data": "scenes:test", "index": 4, "size": 64, "question": "what is it?", "answer": "cat", "said": "dog"}
    worst |= {"p_said": 0.9, "p_answer": 0.001, "looked_at": [0.0] * 15 + [0.5]}
    runs["all/vqa/0"]["worst"] = [worst]
    speed = {"slower": {"language": 1.0, "all": 1.3}, "others_cpu": 0.5}
    measured = {"ratio": latency, "ci95": [latency - 1, latency + 1], "p50_ms": {"regions": 36.0, "all": 3.0}}
    decoded = {"ratio": 2.0, "ci95": [1.9, 2.1], "p50_ms": {"regions": 66.0, "all": 33.0}}
    machine = {"cpu": "a processor", "cores": 2, "versions": {"torch": "2.14.1"}}
    timing = {
        "once/speed/0": speed,
        "once/latency/0": {"model": measured, "pipeline": decoded, "flags": []},
        "all/vqa/0": {"seconds": 7200},
    }
    return {"schema": SCHEMA, "preset": preset, "rows": len(runs), "machine": machine, "runs": runs, "timing": timing}


WRONG = [None, -1, 0, 1e30, 10**9, "x", [], {}, [[]], True, "delete"]


def places(value: object, path: tuple = ()) -> list[tuple]:
    """Every place in nested data; of a list the first two."""
    inner = value.items() if isinstance(value, dict) else enumerate(value[:2]) if isinstance(value, list) else ()
    return [path, *(place for key, item in inner for place in places(item, (*path, key)))]


def test_results_that_somebody_changed_make_a_page_or_are_one_line(tmp_path):
    whole, rng, refused = made_up(seeds=2), random.Random(1), 0
    every = [path for path in places(whole) if path]
    for *parents, last in rng.sample(every, 40):
        wrong, values = rng.choice(WRONG), copy.deepcopy(whole)
        place: dict = values
        for key in parents:
            place = place[key]
        place[last] = wrong
        if wrong == "delete":
            del place[last]
        (tmp_path / "results.json").write_text(json.dumps(values), encoding="utf-8")
        try:
            render(load_results(tmp_path / "results.json"))
        except InputError as error:
            refused += 1
            assert "\n" not in str(error) and "results.json" in str(error), (parents, last, wrong)
    assert 10 < refused < 40


@pytest.mark.parametrize("text", ["[" * 10**5, "", "[]", '{"schema": NaN}', '{"schema": "edgevl.study/1"}'])
def test_hostile_results_are_one_line(text, tmp_path):
    (tmp_path / "results.json").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=r"results with edgevl study|another with edgevl study|JSON object") as error:
        load_results(tmp_path / "results.json")
    assert "\n" not in str(error.value)


def verdicts(results: dict) -> list[str]:
    return [claim.verdict for claim in claims.all_claims(View(results))]


def test_verdicts_follow_the_intervals():
    assert verdicts(made_up()) == [claims.HOLDS] * 3
    assert verdicts(made_up(gain=-0.1, latency=2.0)) == [claims.NOT_HERE, claims.IN_PART, claims.NOT_HERE]
    assert verdicts(made_up(seeds=1)) == [claims.OPEN] * 3
    assert verdicts(made_up(latency=10.5))[1] == claims.IN_PART  # the interval reaches below ten times
    results = made_up()
    for seed in range(3):
        results["runs"][f"all/retrieval/{seed}"]["score"] = 0.4
        results["runs"][f"all_10/vqa/{seed}"]["score"] = 0.1
    assert verdicts(results) == [claims.IN_PART, claims.IN_PART, claims.IN_PART]
    for name in [name for name in results["runs"] if name.startswith("regions/")]:
        del results["runs"][name]
    assert verdicts(results)[1] == claims.OPEN
    results = made_up()
    results["timing"]["once/latency/0"]["flags"] = ["drift"]
    assert verdicts(results)[1] == claims.OPEN and "in a run that was not steady" in render(results)


def test_the_picture_shows_the_parts_that_the_verdicts_are_made_of():
    cut = made_up()
    for name in [name for name in cut["runs"] if name.startswith(("regions/", "all_10/"))]:
        del cut["runs"][name]
    for results in (made_up(), made_up(gain=-0.1, latency=2.0), made_up(seeds=1), cut):
        for claim in claims.all_claims(View(results)):
            assert claim.verdict == claims.judge([part.holds for part in claim.parts])
            assert all(part.found or part.holds is None for part in claim.parts)
    sizes = {Image.open(io.BytesIO(figures(View(results))["study-claims.png"])).size for results in (made_up(), cut)}
    assert len(sizes) == 1, "what is not measured has its row, too"


def with_scores(results: dict, **scores: float) -> dict:
    """The same with other VQA scores: those of an arm differ by a point from seed to seed."""
    for arm, score in scores.items():
        for seed in range(3):
            results["runs"][f"{arm}/vqa/{seed}"]["score"] = score + 0.01 * seed
    return results


def test_a_tenth_of_a_pretraining_that_brings_nothing_proves_nothing():
    nothing = with_scores(made_up(), none=0.4, all=0.4, all_10=0.4, all_25=0.4, all_50=0.4)
    assert verdicts(nothing)[2] == claims.EMPTY and "language only, half" in render(nothing)
    assert verdicts(with_scores(made_up(), none=0.4, all_10=0.4))[2] == claims.IN_PART  # but all of it does something
    assert verdicts(with_scores(nothing, language=0.5, language_1000=0.5))[2] == claims.NOT_HERE
    for arm in ("none", "language_1000"):
        results = made_up()
        for seed in range(3):
            del results["runs"][f"{arm}/vqa/{seed}"]
        assert verdicts(results)[2] == claims.OPEN


def test_a_tenth_is_asked_twice():
    short, whole = made_up(), with_scores(made_up(), language_1000=0.6)
    assert verdicts(whole)[2] == claims.IN_PART and "for the other -10.0" in render(whole)
    assert verdicts(with_scores(short, all_10=0.3, all_25=0.3, all_50=0.3))[2] == claims.IN_PART
    assert verdicts(with_scores(short, language_1000=0.6))[2] == claims.NOT_HERE
    assert verdicts(with_scores(short, all_25=0.4))[2] == claims.NOT_HERE  # a quarter is no tenth


def test_to_reach_a_model_that_does_not_look_proves_nothing():
    results = made_up()
    results["runs"]["once/blind/0"]["test"]["all"] = 0.45
    assert verdicts(results)[2] == claims.EMPTY and "so to reach it means nothing" in render(results)


def test_noise_between_seeds_is_no_gain():
    results = made_up(gain=0.0)
    for seed, noise in enumerate((0.08, -0.02, 0.01)):
        results["runs"][f"all/vqa/{seed}"]["score"] += noise
    assert claims.above(View(results).difference("all", "language", "vqa"), 0.0) is False


def test_convergence_counts_steps_and_compute_and_censors():
    results = made_up()
    found = View(results).convergence("all")
    # All reaches 0.4 of seed 0 between steps 20 (0.25) and 40 (0.5), at 32: 40 / 32. Pretraining is 100 steps of 200.
    assert found and found["reached"] == found["seeds"] == 3
    assert found["steps"]["mean"] == pytest.approx(1.25, rel=0.01)
    assert found["compute"]["mean"] == pytest.approx((20000 + 4000) / (20000 + 3200), rel=0.01)
    assert found["clock"] is None  # of most rows the clock was not read
    for arm, factor in (("all", 1), ("language", 2)):
        for seed in range(3):
            results["timing"][f"{arm}/pretrain/{seed}"] = {"seconds": 100 * factor, "cpu": "one"}
            results["timing"][f"{arm}/vqa/{seed}"] = {"seconds": 40 * factor, "cpu": "one"}
    found = View(results).convergence("all")
    assert found and found["clock"]["mean"] == pytest.approx(280 / 132, rel=0.01)
    results["timing"]["all/vqa/2"]["cpu"] = "another"  # seconds of two processors do not add up
    found = View(results).convergence("all")
    assert found and found["clock"] is None and found["compute"]
    results["timing"]["all/pretrain/2"]["cpu"] = "another"  # nor are they compared
    found = View(results).convergence("all")
    assert found and found["clock"] is None
    for stage in ("pretrain", "vqa"):
        results["timing"][f"language/{stage}/2"]["cpu"] = "another"
    found = View(results).convergence("all")
    assert found and found["clock"]["mean"] == pytest.approx(280 / 132, rel=0.01)  # within each processor they are
    results["runs"]["all/vqa/1"]["curve"] = [[20, 0.1], [40, 0.2]]
    found = View(results).convergence("all")
    assert found and (found["reached"], found["steps"], found["compute"]) == (2, None, None)


def test_the_page_says_what_is_missing_and_what_is_a_toy():
    results = made_up()
    assert "Unfinished" not in render(results) and "preset `quick`" in render(results)
    bare = results | {"runs": {}, "timing": {}}
    text = render(bare)
    assert "Unfinished: 0 of" in text and text.count("not measured yet") >= 3 and "Not measured yet." in text


def test_the_page_says_which_data_and_which_processors():
    results = made_up()
    text = render(results)
    assert "cat, elephant" in text and "cores of a processor" in text and "two processors" not in text
    assert "12.0× [11.0, 13.0] as fast from pixels to answer (2.0× [1.9, 2.1] with decoding)" in text
    results["preset"]["data"] = "scenes"
    for name, cpu in (("all/vqa/0", "one"), ("all/vqa/1", "another")):
        results["timing"].setdefault(name, {"seconds": 1})["cpu"] = cpu
    text = render(results)
    assert "cat, elephant" not in text and "cores of another and one" in text
    assert text.count("two processors are not compared") == 1


def test_the_page_says_what_another_rate_would_have_brought():
    results = made_up(gain=0.2)
    results["runs"]["language_slow/vqa/0"]["score"] = 0.3
    results["runs"]["language_fast/vqa/0"]["score"] = 0.45
    assert "The best of these is 5.0 points above the rate used; all three visual losses are 20.0 points" in render(
        results
    )
    results["runs"]["language_fast/vqa/0"]["score"] = 0.1
    assert "The best of these is 0.0 points" in render(results)
    del results["runs"]["language_fast/vqa/0"]
    assert "The best of these" not in render(results)


def test_the_same_json_gives_the_same_bytes(tmp_path):
    (tmp_path / "results.json").write_text(json.dumps(made_up()), encoding="utf-8")
    folders = [tmp_path / "first", tmp_path / "second"]
    for folder in folders:
        publish(tmp_path / "results.json", folder)
    names = sorted(path.relative_to(folders[0]) for path in folders[0].rglob("*") if path.is_file())
    assert {"study.md", "study.json"} < {path.name for path in names} and len(names) == 7
    assert all((folders[0] / name).read_bytes() == (folders[1] / name).read_bytes() for name in names)
    text = (folders[0] / "study.md").read_text(encoding="utf-8")
    assert all(f"images/{path.name}" in text for path in names if path.suffix in (".png", ".jpg"))


@pytest.mark.skipif(not (DOCS / "study.json").is_file(), reason="no study is committed")
def test_the_page_is_current_with_the_committed_json():
    text = (DOCS / "study.md").read_text(encoding="utf-8")
    assert text == render(load_results(DOCS / "study.json")), "edgevl study --results docs/study.json --publish docs"


def test_retrieval_is_shown_with_and_without_matching():
    results = made_up()
    for seed in range(3):
        results["runs"][f"all/retrieval/{seed}"]["retrieval"] = {"text_to_image_r1": 0.8, "image_to_text_r1": 0.6}
    view = View(results)
    assert view.scores("all", "contrast") == pytest.approx(dict.fromkeys(range(3), 0.7))
    found = view.difference("all", "language", "contrast")
    assert found and found["mean"] == pytest.approx(0.7 - 0.75 * 0.41)  # half and whole of 0.40, 0.41, 0.42
    assert "| 51.0 ± 2.5 | 70.0 ± 0.0 |" in render(results) and "language only: +39.2 [" in render(results)


def test_rates_are_compared_on_the_seed_that_has_them_all():
    results = with_scores(made_up(), language=0.2, language_slow=0.3)
    text = render(results)
    assert "| language losses only | 20.0 |" in text and "| language only, half the rate | 30.0 |" in text


def test_one_lucky_seed_does_not_win():
    results = with_scores(made_up(), object_map=0.55, object=0.9)
    assert "is that of “+ object”, 91.0 ± 2.5 %; minus all three: +40.0 [+40.0, +40.0] points." in render(results)
    for seed in (1, 2):
        del results["runs"][f"object/vqa/{seed}"]
    assert "is that of “+ object, semantic map”, 56.0 ± 2.5 %; minus all three: +5.0 [+5.0, +5.0] points." in render(
        results
    )
    assert "is that of “+ all three”, 51.0 ± 2.5 %." in render(with_scores(made_up(gain=0.09), all=0.5))


def test_with_a_plateau_arms_are_compared_at_the_rate_that_both_have():
    results = made_up()
    results["preset"]["finetune"]["plateau"] = {"window": 20, "gain": 0.005, "cooldown": 20}
    seeds = results["preset"]["seeds"]
    for seed in seeds:
        curve = [[10, 0.2], [20, 0.4], [30, 0.6], [40, 0.5], [50, 0.8], [60, 0.9]]
        results["runs"][f"language/vqa/{seed}"] |= {"steps": 60, "curve": curve}
        fast = [[10, 0.55], [20, 0.6], [30, 0.6], [40, 0.6], [50, 0.9]]
        results["runs"][f"all/vqa/{seed}"] |= {"steps": 50, "curve": fast}
    view = View(results)
    found = view.convergence("all")
    assert found and found["reached"] == found["seeds"]
    assert found["steps"]["mean"] == pytest.approx(27.5 / 10), "0.55, between 20 and 30, against the first look"
    assert view.curve("all")[-1] == (50, pytest.approx(0.9)) and len(view.curve("language")) == 6
    page = render(results)
    assert "risen by no more than 0.5 points in 20 steps and then falls for 20" in page
    assert "no factor can be above" not in page


def test_speed_is_that_beside_the_smallest_region_features_that_larger_pictures_do_not_better(tmp_path):
    results = made_up()
    results["preset"]["arms"] += ["regions_64", "regions_112"]
    assert View(made_up()).saturated() == "regions" and View(results).saturated() is None
    for arm, gain in {"regions_64": -0.05, "regions_112": 0.005}.items():
        for seed in (0, 1):
            run = copy.deepcopy(results["runs"][f"regions/vqa/{seed}"])
            results["runs"] |= {f"{arm}/vqa/{seed}": run | {"score": run["score"] + gain}}
    assert View(results).saturated() == "regions"
    for seed in (0, 1):
        results["runs"][f"regions_112/vqa/{seed}"]["score"] += 0.01
    assert View(results).saturated() == "regions_112", "a point and a half better: not saturated before"
    assert verdicts(results)[1] == claims.OPEN, "not timed"
    slow = copy.deepcopy(results["timing"]["once/latency/0"])
    slow["model"]["p50_ms"] = {"regions_112": 50.0, "all": 3.0}
    results["timing"]["once/latency_112/0"] = slow
    assert verdicts(results)[1] == claims.HOLDS
    assert "against the region-feature model, detector of 112 pixels" in claims.claim_b(View(results)).because
    assert "| region-feature model, detector of 112 pixels |" in render(results)
    (tmp_path / "results.json").write_text(json.dumps(results), encoding="utf-8")
    assert load_results(tmp_path / "results.json")["timing"]["once/latency_112/0"]["flags"] == []
