"""From what a layer holds of an image back to a picture."""
