"""abixio: an S3-compatible object store in which every object chooses how many disk failures it survives."""

__version__ = "0.1.0"
