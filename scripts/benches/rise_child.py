"""One run of RISE, measured in this process; prints a line of JSON."""

from __future__ import annotations

import json
import sys

from load_child import Meter, resident


def main() -> None:
    import convlens

    model_name, photo, masks, batch = sys.argv[1:]
    model = convlens.load(model_name, device="cpu")
    size = int(batch)
    model.run("rise", photo, masks=2, batch_size=size)  # the certificate, sessions and imports
    meter = Meter()
    result, _, wall = meter.step(lambda: model.run("rise", photo, masks=int(masks), batch_size=size))
    (row,) = result.rows
    found = {"peak": meter.peak(), "resident": resident(), "wall": wall}
    print(json.dumps({**found, "error": row["error"], "agreement": row["agreement"]}))


if __name__ == "__main__":
    main()
