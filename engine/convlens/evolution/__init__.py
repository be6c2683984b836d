"""A network over its training: what channels respond to, how far layers are from their end, when they settle.

Channels are followed as in Zeiler & Fergus 2014, section 4.1 and figure 4 (https://arxiv.org/abs/1311.2901);
layers are compared by linear CKA (Kornblith et al. 2019, https://arxiv.org/abs/1905.00414), to see whether
they settle from the bottom up, as Raghu et al. 2017 ask (https://arxiv.org/abs/1706.05806).
"""

from convlens.evolution.job import evolve

__all__ = ["evolve"]
