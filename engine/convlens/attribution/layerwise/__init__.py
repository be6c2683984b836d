"""Maps and units of a layer: which layer, what its channels weigh, where its units lie."""
