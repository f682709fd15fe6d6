"""VMTemplates as decisions: what a version is, which copies are wanted where, and the next step of each.

Pure, like all of ``planning``. Doing the steps is ``controllers.template.apply``'s part.
"""

from proxmox_operator.planning.templates.draft import BOOT_SLOT, draft
from proxmox_operator.planning.templates.facts import (
    Bury,
    Convert,
    CopyFacts,
    Create,
    DeleteImage,
    Destroy,
    Download,
    Drop,
    Finish,
    Gone,
    Hold,
    Keep,
    NodeFacts,
    Plan,
    Release,
    Reserve,
    Standing,
    Step,
    TemplateFacts,
    There,
    Trouble,
    Unclear,
)
from proxmox_operator.planning.templates.plan import plan, wanted_nodes
from proxmox_operator.planning.templates.report import conditions, counted, is_usable, verdict
from proxmox_operator.planning.templates.version import (
    ImageFile,
    image_file,
    marked_name,
    marked_version,
    proxmox_name,
    version_of,
)

__all__ = [
    "BOOT_SLOT",
    "Bury",
    "Convert",
    "CopyFacts",
    "Create",
    "DeleteImage",
    "Destroy",
    "Download",
    "Drop",
    "Finish",
    "Gone",
    "Hold",
    "ImageFile",
    "Keep",
    "NodeFacts",
    "Plan",
    "Release",
    "Reserve",
    "Standing",
    "Step",
    "TemplateFacts",
    "There",
    "Trouble",
    "Unclear",
    "conditions",
    "counted",
    "draft",
    "image_file",
    "is_usable",
    "marked_name",
    "marked_version",
    "plan",
    "proxmox_name",
    "verdict",
    "version_of",
    "wanted_nodes",
]
