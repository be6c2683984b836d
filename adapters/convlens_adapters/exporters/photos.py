"""Photos to try things on: four that come along, and five more for the documentation's pictures."""

from __future__ import annotations

from pathlib import Path

from convlens_adapters.exporters.folder import member, write
from convlens_adapters.exporters.pip import Package, wheel

# Only data files are read, so that one wheel serves every machine.
PACKAGE = Package(
    "scikit-image",
    "0.26.0",
    "74aa5518ccea28121f57a95374581d3b979839adc25bb03f289b1bc9b99c58af",
    ("--python-version=3.11", "--implementation=cp", "--platform=manylinux_2_28_x86_64"),
)
PHOTOS = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg")
LEARN = Package(
    "scikit-learn",
    "1.8.0",
    "ada8121bcb4dac28d930febc791a69f7cb1673c8495e5eee274190b73a4559c1",
    ("--python-version=3.11", "--implementation=cp", "--platform=manylinux_2_28_x86_64"),
)
VARIED = ("astronaut.png", "brick.png", "camera.png", "chelsea.png", "coffee.png", "grass.png", "gravel.png")
COLOURFUL = ("china.jpg", "flower.jpg")
"""By danielbuechele and vultilion, CC BY 2.0, as scikit-learn's README beside them links them."""
LICENCE = """\
# Photos

Taken unchanged from the PyPI package scikit-image 0.26.0 (folder `skimage/data`). What they show,
who took them and their terms are as its documentation states. No copyright restricts their use.

- `astronaut.png`: Eileen Collins, astronaut. By NASA, from the Great Images database,
  <https://flic.kr/p/r9qvLn>. Public domain, no known copyright restrictions.
- `chelsea.png`: Chelsea the cat. By Stefan van der Walt. CC0.
- `coffee.png`: a cup of coffee, courtesy of Pikolo Espresso Bar. By Rachel Michetti. CC0.
- `rocket.jpg`: the launch of DSCOVR on a Falcon 9. By SpaceX,
  <https://www.flickr.com/photos/spacexphotos/16511594820/>. Released into the public domain.
"""


def make(folder: Path) -> Path:
    """Write the photos and LICENCE.md; return the folder."""
    with wheel(PACKAGE) as opened:
        files: dict[str, bytes | str] = {name: member(opened, f"skimage/data/{name}") for name in PHOTOS}
    write(folder, files | {"LICENCE.md": LICENCE})
    return folder


def make_nine(folder: Path) -> Path:
    """Write nine photos of faces, things, a flower and textures; return the folder."""
    with wheel(PACKAGE) as opened:
        files: dict[str, bytes | str] = {name: member(opened, f"skimage/data/{name}") for name in VARIED}
    with wheel(LEARN) as opened:
        files |= {name: member(opened, f"sklearn/datasets/images/{name}") for name in COLOURFUL}
    write(folder, files)
    return folder
