from math import log2

import numpy as np
import pytest

from nextreel import arrays
from nextreel.scoring.validation import of_ranks


def test_ranks_of_valid_are_averaged_over_seeds(cycle, tmp_path):
    """Ranks 1 and 3 with one seed, 11 and a miss with the other; cases of other parts do not count."""
    asked = cycle.asked
    valid, test = asked.of("valid").cases.case_id[:2], asked.of("test").cases.case_id[:1]
    case_id = np.tile(np.concatenate([valid, test]), 2)
    table = {"seed": np.repeat([42, 43], 3), "case_id": case_id, "rank": np.array([1, 3, 1, 11, 0, 1])}
    arrays.write(table, tmp_path / "ranks.parquet")
    found = of_ranks(tmp_path / "ranks.parquet", asked)
    assert found == {"valid_hr@10": 2 / 4, "valid_ndcg@10": pytest.approx((1 + 1 / log2(4)) / 4)}
