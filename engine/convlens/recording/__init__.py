"""What a data set does to a model: one pass, kept on disk, asked afterwards."""
