"""The results table of README.md, from the committed metrics: `make table`."""

import csv
from pathlib import Path

from nextreel.files import read_json, replacing

START, END = "<!-- results: make table -->", "<!-- /results -->"
COLUMNS = ("ndcg@10", "hr@10", "hr@50", "coverage@10", "valid_ndcg@10")


def table(metrics: Path) -> str:
    """Markdown: a row a model, best first, with the 95 % interval of ndcg@10 on test."""
    with (metrics / "comparison.csv").open(encoding="utf-8") as file:
        own = {row["model"]: row for row in csv.DictReader(file) if not row["minus"]}
    results = {path.stem: read_json(path) for path in sorted((metrics / "models").glob("*.json"))}
    best_first = sorted(results, key=lambda name: (-results[name]["ndcg@10"], name))
    lines = ["| model | " + " | ".join((COLUMNS[0], "95 % interval", *COLUMNS[1:])) + " |"]
    lines.append("|---" * (len(COLUMNS) + 2) + "|")
    for name in best_first:
        first, *rest = (f"{results[name][column]:.4f}" for column in COLUMNS)
        interval = f"{float(own[name]['low']):.4f} to {float(own[name]['high']):.4f}"
        lines.append(f"| {name} | " + " | ".join((first, interval, *rest)) + " |")
    test = next(iter(results.values()))
    lines += [
        "",
        f"{test['n_cases']:.0f} test cases; {test['cold_share']:.1%} of the targets lie outside the catalogue.",
    ]
    return "\n".join(lines)


def update(text: str, table: str) -> str:
    """`text` with the table between its marks."""
    before, rest = text.split(START)
    _old, after = rest.split(END)
    return f"{before}{START}\n{table}\n{END}{after}"


if __name__ == "__main__":
    readme = Path("README.md")
    with replacing(readme) as temporary:
        temporary.write_text(update(readme.read_text(encoding="utf-8"), table(Path("metrics"))), encoding="utf-8")
