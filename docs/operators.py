"""Writes docs/operators.md, the table of operators that fxgrow has rules for, from the registry.

Usage:
    python docs/operators.py           # write it
    python docs/operators.py --check   # exit 1 if it is not what the registry says
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from fxgrow.ops.page import page

PAGE = Path(__file__).with_name("operators.md")


def main() -> int:
    """Write the page, or check it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if the page is stale")
    check = parser.parse_args().check
    text = page()
    if check:
        stale = not PAGE.exists() or PAGE.read_text() != text
        sys.stderr.write("docs/operators.md is stale: run python docs/operators.py\n" * stale)
        return int(stale)
    PAGE.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
