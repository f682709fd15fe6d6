"""What the API server itself lets through and refuses, by our CRDs alone: the operator does not run here.

Each refusal must have exactly one cause, and each constraint of the schema must be the cause of one. So the
wrong manifest passes when the constraint is taken out - which is done for the rules over several fields -
and a test fails.
"""

import copy
import uuid
from collections.abc import Iterator

import pytest
import yaml

from admission.constraints import Cause, Constraint, Json, constraints, is_because_of, violation, without
from admission.server import PLURALS, Server, expected_refusal, manifests
from controlplane import Cluster
from proxmox_operator.api import crds

CRDS = {name.removesuffix(".yaml"): yaml.safe_load(text) for name, text in crds.files().items()}
ALL = [constraint for crd in CRDS.values() for constraint in constraints(crd)]
GOOD, BAD = manifests("good"), manifests("bad")
WHOLE = {"ProxmoxVM": GOOD["vm-everything"][0], "ProxmoxCluster": GOOD["cluster-everything"][0]}
MECHANICAL = [constraint for constraint in ALL if violation(constraint, WHOLE[constraint.kind] | STATUS[constraint.kind])]
