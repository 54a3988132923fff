"""Which formula serves which family: each module registers one kind of family with the measures and operations."""

from infogeo.dispatch import categorical as categorical
from infogeo.dispatch import curvature as curvature
from infogeo.dispatch import discrete as discrete
from infogeo.dispatch import exponential as exponential
from infogeo.dispatch import exponential_discrete as exponential_discrete
from infogeo.dispatch import exponential_normals as exponential_normals
from infogeo.dispatch import full_normals as full_normals
from infogeo.dispatch import gamma_family as gamma_family
from infogeo.dispatch import isotropic as isotropic
from infogeo.dispatch import low_rank as low_rank
from infogeo.dispatch import mixtures as mixtures
from infogeo.dispatch import normals as normals
from infogeo.dispatch import numerical as numerical
from infogeo.dispatch import positive as positive
from infogeo.dispatch import von_mises_fisher as von_mises_fisher
