"""What a model was trained on, as numbers: is a picture like it, and how often is such an answer right?"""

from edgevl.domain.features import picture_features
from edgevl.domain.judge import DOMAIN, Domain, load_domain, parse_domain

__all__ = ["DOMAIN", "Domain", "load_domain", "parse_domain", "picture_features"]
