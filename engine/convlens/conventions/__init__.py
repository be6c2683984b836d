"""How pixels go into a model that came without a card, as far as its own behaviour tells.

Every convention in use is tried on the same photos. In the order of what it counts for:

- how likely the true classes are, where they are known,
- how the statistics at each BatchNormalization fit those that training recorded there,
- how the normalisation in front of the first convolution fits, where the graph begins with one,
- how much a prediction tells about the photo, over small changes of it,
- how evenly the model's channels are used.

The parts add up to a score. Photos are drawn again and again from those given to see how far the ranking
hangs on the choice; conventions that cannot be told apart are asked whether they answer differently at all.
"""

from convlens.conventions.candidates import Convention
from convlens.conventions.card import card_text
from convlens.conventions.findings import Finding
from convlens.conventions.investigate import investigate

__all__ = ["Convention", "Finding", "card_text", "investigate"]
