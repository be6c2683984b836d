"""Build one group's files: ``python -m convlens_adapters.corpus.build GROUP FOLDER [LIMIT]``.

Run by ``scripts/corpus`` with the interpreter of the environment that the group needs.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

from convlens_adapters.corpus.items import build, say


def main(group: str, folder: str, limit: str = "180") -> int:
    """Write every file of ``group`` into ``folder/group``; files that fail leave a note there."""
    module = importlib.import_module(f"convlens_adapters.corpus.group_{group}")
    fetch = getattr(module, "fetch", None)
    if fetch is not None:
        failed = fetch(Path(folder) / group)
        say(f"{group}: {len(failed)} packages hold nothing")
        return 0
    prepare = getattr(module, "prepare", None)
    if prepare is not None:
        prepare()
    failed = build(module.items(), Path(folder) / group, float(limit))
    say(f"{group}: {len(failed)} could not be built")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
