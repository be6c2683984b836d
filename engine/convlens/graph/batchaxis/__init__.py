"""Where the axis that counts the images goes, node by node: what proves that images stay apart."""
