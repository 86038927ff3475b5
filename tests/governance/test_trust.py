"""The score and the gaps: always within 0 and 1, never better for a violation, never better for the same again."""

from hypothesis import given, settings
from hypothesis import strategies as st

from governance.policy.types import Maturity
from governance.trust import WORTH, Criterion, Earned, Ending, earned_of, promotion_problems, trust_score

endings = st.lists(st.sampled_from(list(Ending)), max_size=60)
violations = st.integers(0, 50)
few = settings(max_examples=60, deadline=None)
TO_AUTONOMOUS = Criterion(Maturity.AUTONOMOUS, 50, 0, 95)


@few
@given(endings, violations)
def test_the_score_is_within_its_bounds_and_falls_with_each_violation(found: list[Ending], number: int) -> None:
    score, worse = trust_score(found, number), trust_score(found, number + 1)
    assert 0 <= worse <= score <= 1
    assert worse < score or score == 0


@few
@given(endings.filter(bool), st.data())
def test_a_worse_ending_never_raises_it_and_weighs_more_the_newer_it_is(
    found: list[Ending], data: st.DataObject
) -> None:
    place = data.draw(st.integers(0, len(found) - 1))
    spoilt = [*found[:place], Ending.INTERVENED, *found[place + 1 :]]
    assert trust_score(spoilt, 0) <= trust_score(found, 0)
    well = [Ending.SUCCEEDED] * (len(found) + 1)
    earlier, later = [*well], [*well]
    earlier[place + 1] = later[place] = Ending.INTERVENED
    assert trust_score(later, 0) < trust_score(earlier, 0) < 1


@few
@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(list(Ending))), min_size=1, max_size=30))
def test_the_same_again_earns_nothing(sessions: list[tuple[str, Ending]]) -> None:
    once = earned_of(sessions, 0)
    assert once.decided <= 3
    digest, ending = sessions[0]
    again = earned_of([(digest, ending)] * 100 + sessions, 0)
    assert again.decided == once.decided
    if ending is not Ending.INTERVENED:
        assert (again.counted, again.interventions, again.score) == (once.counted, once.interventions, once.score)
    else:
        assert again.interventions == once.interventions + 100


def test_what_a_person_stopped_is_not_forgotten_by_doing_it_again() -> None:
    earned = earned_of([("a", Ending.SUCCEEDED), ("a", Ending.INTERVENED)], 0)
    assert (earned.decided, earned.counted, earned.interventions, earned.intervention_percent) == (1, 2, 1, 50)
    assert 0.5 < earned.score < 0.51


def test_each_gap_is_spelled_out() -> None:
    clean = earned_of([(str(number), Ending.SUCCEEDED) for number in range(50)], 0)
    assert clean.gaps(TO_AUTONOMOUS) == ()
    assert [gap.what for gap in earned_of([("x", Ending.INTERVENED)], 1).gaps(TO_AUTONOMOUS)] == [
        "decided",
        "intervention",
        "score",
    ]
    violated = earned_of([(str(number), Ending.SUCCEEDED) for number in range(50)], 1)
    (gap,) = violated.gaps(TO_AUTONOMOUS)
    assert (gap.what, gap.has, gap.needs) == ("score", "0.900", "0.95")
    assert [gap.what for gap in Earned().gaps(TO_AUTONOMOUS)] == ["decided", "score"]
    almost = Earned(decided=50, counted=50, score=0.9499)
    assert [gap.has for gap in almost.gaps(TO_AUTONOMOUS)] == ["0.949"]
    assert set(WORTH) == set(Ending)


def test_more_maturity_never_asks_for_less() -> None:
    lower = Criterion(Maturity.INTERN, 10, 50, 70)
    assert promotion_problems([lower, TO_AUTONOMOUS]) == []
    assert len(promotion_problems([Criterion(Maturity.AUTONOMOUS, 9, 51, 69), lower])) == 3
    assert len(promotion_problems([Criterion(Maturity.AUTONOMOUS, 1001, 0, 95)])) == 1
