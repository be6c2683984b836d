"""Whether a model is what its file says: the certificate, and which images may share a forward."""
