"""McNemar's test where it may be used, and Holm's correction."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from parrot.evaluate.bootstrap import Estimate, exact_mcnemar, holm, independent
from parrot.report import comparisons
from parrot.report.comparisons import Comparison


def units(hits: str, language: str = "en") -> pd.DataFrame:
    table = pd.DataFrame({"hit": [int(hit) for hit in hits]})
    table["index"] = range(len(table))
    return table.assign(language=language, image=[f"p{n}" for n in range(len(table))])


def test_exact_p_is_the_binomial_tail_of_the_discordant_answers() -> None:
    # Five questions that only the first gets, one that only the second does: 2 * (1 + 6) / 2**6.
    assert exact_mcnemar(units("11111101"), units("00000111")) == pytest.approx(14 / 64)
    assert exact_mcnemar(units("1010"), units("1010")) == 1


def test_questions_are_joined_by_number_not_by_place() -> None:
    a, b = units("1100"), units("1100").iloc[::-1]
    assert exact_mcnemar(a, b) == 1


def test_answers_that_share_an_image_or_come_in_several_languages_are_refused() -> None:
    a = units("1100")
    shared = a.assign(image="p")
    mixed = pd.concat([units("11"), units("11", "pt")])
    assert [independent(table) for table in (a, shared, mixed)] == [True, False, False]
    for table in (shared, mixed):
        with pytest.raises(ValueError, match="one language and one question per image"):
            exact_mcnemar(table, table)
    with pytest.raises(ValueError, match="different questions were answered: 4 and 3, 3 in common"):
        exact_mcnemar(a, units("110"))


def test_holm_multiplies_by_the_claims_left_and_never_goes_down() -> None:
    given = np.array([0.01, np.nan, 0.04, 0.03])
    found = holm(given)
    assert given[0] == 0.01
    assert found[0] == pytest.approx(0.03)
    assert np.isnan(found[1])
    assert found[2:] == pytest.approx([0.06, 0.06])
    assert holm([]) == []


def test_a_claim_without_p_is_not_among_those_that_a_table_adjusts_for() -> None:
    p_values = iter([0.02, np.nan, 0.01])

    class Answered:
        def compare(self, *_: object) -> Comparison:
            p = next(p_values)
            return Comparison(Estimate(1, 1, 1, 0, 0, p, questions=8, images=8), p, exact=False)

    columns = [("MMMB", (language,)) for language in ("en", "zh", "tr")]
    rows, claims = comparisons.differences([("a", "b")], ["all"], columns, Answered())
    assert claims == 2
    assert [cell.value for cell in rows[2][1]] == [0.02, None, 0.02]
