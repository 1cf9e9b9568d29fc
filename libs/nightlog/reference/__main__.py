"""Write all reference pages: `python -m nightlog.reference docs/reference`."""

from __future__ import annotations

import sys
from pathlib import Path

from nightlog.reference.pages import PAGES


def main(folder: Path) -> None:
    """Write each page into the folder."""
    for name, page in PAGES.items():
        (folder / name).write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
