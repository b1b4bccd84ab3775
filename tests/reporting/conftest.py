import csv
import json
import shutil
from pathlib import Path

import pytest


@pytest.fixture
def few_users(root: Path, tmp_path: Path) -> Path:
    """The committed metrics as `evaluate` writes them where there are too few users for an interval."""
    folder = tmp_path / "few_users"
    shutil.copytree(root / "metrics", folder)
    for path in folder.glob("*/*.json"):
        found = json.loads(path.read_text(encoding="utf-8"))
        missing = [name for name in found if name.endswith("_half_width") or name == "wtg@5"]
        path.write_text(json.dumps(found | dict.fromkeys(missing)), encoding="utf-8")
    with (folder / "comparison.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    with (folder / "comparison.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(row | dict.fromkeys([x for x in row if x.startswith(("low", "high"))], "") for row in rows)
    return folder
