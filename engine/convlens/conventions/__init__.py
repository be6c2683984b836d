"""How pixels go into a model that came without a card, as far as its own behaviour tells.

Every convention in use is tried on the same photos, and what the model does with each is measured:

- how the statistics at each BatchNormalization fit those that training recorded there,
- how often the true class is found, where it is known,
- how much a prediction tells about the photo, over small changes of it,
- whether photos are more of something to the model than the same photos in pieces,
- how evenly its channels are used,

and what the file itself says: a normalisation in front of the first convolution. The parts add up to a
score. Photos are drawn again and again from those given to see how far the ranking hangs on the choice.
"""

from convlens.conventions.candidates import Convention
from convlens.conventions.card import card_text
from convlens.conventions.investigate import Finding, investigate

__all__ = ["Convention", "Finding", "card_text", "investigate"]
