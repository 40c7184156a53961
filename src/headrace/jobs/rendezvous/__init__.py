"""How a gang's workers find each other: one file a framework, each a pure function from a place in the gang to variables.

Variables that only launchers read are always there; variables that libraries react to only for the declared framework,
because some libraries believe that they are distributed as soon as they see one (docs/design.md, section 6).
"""

from headrace.jobs.rendezvous.contract import Spot, variables

__all__ = ["Spot", "variables"]
