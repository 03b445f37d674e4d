"""Files of the original BiLLP: its worlds, recorded runs and memories."""
