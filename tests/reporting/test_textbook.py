from pathlib import Path

import pytest

from nextreel import checking
from nextreel.params import Params
from nextreel.reporting import clones, textbook


@pytest.mark.parametrize("loss", textbook.LOSSES)
@pytest.mark.parametrize("recall", textbook.RECALL)
def test_the_settings_are_sound_and_what_is_asked_has_the_last_word(root, tmp_path, loss, recall):
    """Every mistake that `check` knows would be told here."""
    params = Params.load(root / "params.yaml")
    clones_params = tmp_path / "params.yaml"
    clones_params.write_text((root / "params.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    clones.change(tmp_path, textbook.changes(params, loss, recall, {"model.dropout": 0.2}))
    found = Params.load(clones_params)
    checking.check(found, tmp_path / "scratch")
    assert list(found.get("recall")) == list(textbook.COUNTING)
    assert (found.get("model.loss"), found.get("model.dropout")) == (loss, 0.2)
    assert found.get("candidates.from") == [recall]
    assert (found.get("rank.model"), found.get("rank.weight")) == ("sasrec", 0)


def test_a_row_a_model_and_none_where_there_is_no_oracle(tmp_path):
    lines = ["part,model,metric,value,low,high"]
    for model, value in (("two_stage", 0.2), ("sasrec", 0.3), ("tag_chain", 0.9)):
        lines += [f"test,{model},{metric},{value},0.1,0.4" for metric in textbook.METRICS]
        lines += [f"valid,{model},{metric},0.7,," for metric in textbook.METRICS]
    (tmp_path / "next_item.csv").write_text("\n".join(lines) + "\n")
    assert textbook.table(tmp_path, "itemcf", 0.95).splitlines() == [
        "| model | hr@10 | ndcg@10 | hr@50 | ndcg@50 | ndcg@10, 95 % interval |",
        "|---|---|---|---|---|---|",
        "| sasrec | 0.3000 | 0.3000 | 0.3000 | 0.3000 | 0.1000 to 0.4000 |",
        "| **two_stage**, the pool of itemcf in the order of sasrec | 0.2000 | 0.2000 | 0.2000 | 0.2000 "
        "| 0.1000 to 0.4000 |",
    ]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("", "", "softmax", "itemcf", ""), "LOSS is 'softmax'; allowed: bce, bpr"),
        (("", "", "bce", "rates", ""), "RECALL is 'rates'; allowed: itemcf, bpr_mf"),
        (("/no/such/log", "", "bce", "itemcf", ""), "/no/such/log holds no files"),
    ],
)
def test_what_cannot_be_run_is_told(root, monkeypatch, arguments, told):
    monkeypatch.chdir(root)
    assert told in str(textbook.main(*arguments))


def test_the_book_has_its_marks(root):
    from nextreel.reporting.book import Book

    assert isinstance(Book(root / textbook.BOOK, "sasrec").read(), dict)
    assert Path(root / textbook.BOOK).read_text().count("make sasrec -->") == 1
