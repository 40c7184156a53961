"""Makes docs/demo.svg, the picture of `make demo` in the README, from the demo's own output on standard input.

make demo | tee demo.txt; python tools/record_demo.py docs/demo.svg < demo.txt
"""

from __future__ import annotations

import io
import sys

from rich.console import Console
from rich.text import Text


def main(target: str) -> None:
    text = sys.stdin.read()
    console = Console(record=True, width=118, file=io.StringIO(), force_terminal=True)
    for line in text.splitlines():
        console.print(Text.from_ansi(line), overflow="ellipsis", no_wrap=True)
    console.save_svg(target, title="make demo")


if __name__ == "__main__":
    main(sys.argv[1])
