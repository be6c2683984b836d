"""Feed-forward networks that paint a photo in one style: trained, exported, checked."""
