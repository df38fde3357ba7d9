"""What is said in words: signals are no accuracy, and an estimate is no measurement."""

from __future__ import annotations

import pytest
from report_cases import CASES, estimated, labelled, unlabelled, unscored, whole

from adabn_cli.record import MethodPart, RoundPart, SampleSizePart
from adabn_cli.reports.words import subject, wording


@pytest.mark.parametrize("case", [labelled, unlabelled, whole, estimated])
def test_signals_are_one_sentence_that_claims_nothing(record, case):
    told = wording.signals_sentence(case(record))
    assert told.startswith("Signals without labels: mean confidence rose from 86.8% to 91.3%")
    assert told.count(". ") == 0
    assert told.endswith(".")
    assert "accuracy" not in told
    assert "help" not in told


def test_without_a_profile_signals_are_of_low_confidence(record):
    assert "low confidence" in wording.signals_sentence(unlabelled(record))
    told = wording.signals_sentence(estimated(record))
    assert "low confidence" not in told
    assert "the estimate by the source profile says more" in told


def test_what_is_not_known_is_not_said(record):
    assert wording.signals_sentence(unscored(record)) == ""
    assert wording.estimate_told(record) == ""
    assert wording.estimated_shares(record) == []
    assert "mutual information" not in wording.signals_sentence(record)


def test_signals_that_stay_are_said_to_stay(record):
    same = record.model_copy(update={"after": record.before})
    assert "mean confidence stayed at 86.8%" in wording.signals_sentence(same)


def test_an_estimate_says_that_it_is_one_and_of_how_many_pictures(record):
    told = wording.estimate_told(whole(record))
    assert told == (
        "Estimated without labels, by a profile of 256 source pictures: +41.2 points; an "
        "estimate, no measurement."
    )
    assert "in 43.1%, the adapted one in 87.2%" in wording.estimate_rests_on(whole(record))
    part = whole(record).verdict.estimate.model_copy(update={"own": True})
    verdict = record.verdict.model_copy(update={"estimate": part})
    own = record.model_copy(update={"verdict": verdict})
    assert "by a source profile" in wording.estimate_told(own)
    assert "cannot see harm" in wording.estimate_told(own)
    assert wording.estimate_rests_on(own) == ""


@pytest.mark.parametrize("case", CASES)
def test_a_signal_is_never_called_accuracy(record, case):
    record = CASES[case](record)
    for signal in (*wording.signals(record), *wording.estimated_shares(record)):
        assert "accuracy" not in signal.name


def test_a_sample_size_says_whether_it_is_enough():
    part = SampleSizePart(site="s", tolerance=0.1, images=(8, 64), errors=(0.4, 0.14), enough=126)
    assert wording.sample_size_told(part, 1000).startswith("Enough pictures: from 126 of 1,000")
    few = wording.sample_size_told(part, 64)
    assert few == (
        "Too few pictures: 64, and it takes about 126 to know all means within 0.1 standard "
        "deviations (worst at s)."
    )


def test_a_search_says_what_every_round_came_to():
    part = SampleSizePart(
        site="s",
        tolerance=0.05,
        images=(64, 1312),
        errors=(0.2, 0.04),
        enough=840,
        rounds=(RoundPart(images=64, error=0.2), RoundPart(images=1312, error=0.04)),
    )
    assert wording.sample_size_told(part, 1312) == (
        "Enough pictures: the worst site, s, is at 0.04 standard deviations, under 0.05, with "
        "1,312 pictures; before, 0.2 with 64."
    )
    few = part.model_copy(update={"enough": 1024, "rounds": part.rounds[:1]})
    assert wording.sample_size_told(few, 64) == (
        "Too few pictures: the worst site, s, is at 0.2 standard deviations, over 0.05, with 64 "
        "pictures. About 960 more are needed."
    )


@pytest.mark.parametrize(
    ("name", "aim", "told"),
    [
        ("adabn", None, "AdaBN,"),
        ("matched", None, "matched to the profile,"),
        ("matched", "class mix", "matched to the profile's classes in another mix,"),
        ("auto", "adabn", "auto: AdaBN,"),
        ("auto", "profile", "auto: matched to the profile,"),
    ],
)
def test_a_method_says_what_it_came_to(record, name, aim, told):
    method = MethodPart(**record.method.model_dump() | {"name": name, "aim": aim})
    assert subject.method(record.model_copy(update={"method": method})).startswith(told)


def test_the_largest_classes_of_a_mix_are_named(record):
    facts = dict(subject.run_facts(whole(record)))
    assert facts["Mix of classes"] == "0 40.0%, 1 20.0%, 2 5.0%, 3 5.0%, 4 5.0% and 5 more"
    assert "Mix of classes" not in dict(subject.run_facts(record))
