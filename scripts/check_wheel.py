"""Does a wheel hold all it needs to work where nothing else of the repository is? ``check_wheel.py dist/*.whl``"""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
MUST = (  # of each kind at least one file
    "foliocast/workflows/configs/demo.toml",
    "foliocast/workflows/page/report.css",
    "foliocast/data/sample/*",
    "card.json",
    "weights.safetensors",
    "foliocast/apps/dashboard/main.py",
    "foliocast/py.typed",
)
LARGEST = 60 * 1024 * 1024


def missing(wheel: Path) -> list[str]:
    """What a wheel lacks: files of the package that the repository has, and kinds of files that must be there."""
    names = set(zipfile.ZipFile(wheel).namelist())
    listed = subprocess.run(["git", "ls-files", "src/foliocast"], capture_output=True, text=True, cwd=ROOT, check=True)
    tracked = {line.removeprefix("src/") for line in listed.stdout.split()}
    return sorted(tracked - names) + [kind for kind in MUST if not any(Path(name).match(kind) for name in names)]


def main() -> None:
    """Check each wheel named; exit code 1 if one is not whole."""
    for wheel in map(Path, sys.argv[1:]):
        lacks, size = missing(wheel), wheel.stat().st_size
        print(f"{wheel.name}: {size / 1e6:.1f} MB, {'whole' if not lacks else f'lacks {lacks}'}")
        if lacks or size > LARGEST:
            sys.exit(1)


if __name__ == "__main__":
    main()
