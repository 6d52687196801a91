"""Training data from media: stages that a YAML lists, each from sample files to sample files."""
