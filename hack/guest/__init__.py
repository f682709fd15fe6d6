"""The image that the simulator's real guests boot from (`python -m guest build`): see `recipe.py` for what is in it.

Not here: how a guest is run (hack/pvesim), and anything of the operator.
"""

from guest.accelerator import accelerator
from guest.build import image, unavailable
from guest.host import RUNNING, WHAT

__all__ = ["RUNNING", "WHAT", "accelerator", "image", "unavailable"]
