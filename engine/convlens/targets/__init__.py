"""Targets: what is being explained, as a person types it and as a number per image.

========================== ==================================================================
``281``, ``tiger cat``     class of the class output, by index or label; of a segmenter or detector
                           whose labels are known, that class of the whole picture or its best box
``conv5_3:43``             mean of channel 43 of a layer (its alias or its ONNX value name)
``conv5_3:43@7,7``         the neuron of that channel at row 7, column 7
``conv5_3:43@peak``        the neuron of that channel that is strongest on the image at hand
``conv5_3``                the whole layer: its L2 norm
``output1[0,4,:].max``     cells of any output or layer, reduced by max, min, mean, sum or norm
``sofa@segment``           where a segmenter predicts that class
``sofa@120,80``            its connected segment at row 120, column 80 of the input, or the best box of
                           that class that contains the point
``sofa@10:50,20:80``       its maps over rows 10 to 49, columns 20 to 79 of the input
``@120,80``                whatever is predicted there: a segment, or the box with the largest score
``@box:17``                box 17 of a detector
``head2=cat``              a class of another output; ``head2=predicted``; ``masks=sofa@segment``
``0.7*conv5_3:43 + 281``   a weighted sum of these, white space around plus and minus; ``281 - 282``
========================== ==================================================================

In a selector the batch axis may be left out; where it is written, it is ``0`` or ``:`` and means the
image at hand. Nothing at all means the class that the model predicts, image by image. After a class, ``@``
is followed by a place on the input, in pixels of what the model sees; after a channel, two bare numbers
are a place in the layer itself.
"""

from __future__ import annotations

from convlens.targets.advice import check_rows as check_rows
from convlens.targets.advice import need_classes as need_classes
from convlens.targets.advice import suggestions as suggestions
from convlens.targets.boxes import faint as faint
from convlens.targets.grammar import resolve as resolve
from convlens.targets.slopes import check_slope as check_slope
from convlens.targets.slopes import saturation as saturation
from convlens.targets.slopes import squashed as squashed
from convlens.targets.sums import weighted as weighted
from convlens.targets.target import Pick as Pick
from convlens.targets.target import Spec as Spec
from convlens.targets.target import Target as Target
from convlens.targets.target import joined as joined
from convlens.targets.target import settled as settled
