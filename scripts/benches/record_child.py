"""One recording in this process; prints its peak memory, processor time and wall time as a line of JSON."""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("folder", type=Path)
    parser.add_argument("images", nargs="+")
    parser.add_argument("--mean", type=float, nargs="*")
    parser.add_argument("--std", type=float, nargs="*")
    parser.add_argument("--workers", type=int)
    parser.add_argument("--threads", type=int)
    options = parser.parse_args()

    import convlens
    from convlens.recording.plan import plan_of
    from convlens.recording.run import locally, record
    from convlens.recording.source import open_source

    named = {key: getattr(options, key) for key in ("mean", "std") if getattr(options, key)}
    model = convlens.load(options.model, device="cpu", threads=options.threads, **named)
    source = open_source(options.images, model.source, model.card)
    start, used = time.perf_counter(), time.process_time()
    record(
        model,
        source,
        options.folder,
        plan_of(model),
        run=locally(options.workers),
        resume=True,
        progress=lambda share: print(share, file=sys.stderr, flush=True),
    )
    found = {
        "images": len(source),
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "cpu": time.process_time() - used,
        "wall": time.perf_counter() - start,
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
