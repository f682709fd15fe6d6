"""The operator's container image, built and looked into (`python -m image build`): see the Dockerfile for what it is.

Not here: publishing it, and running it (`node`).
"""

from image.archive import Archive
from image.build import NAME, image

__all__ = ["NAME", "Archive", "image"]
