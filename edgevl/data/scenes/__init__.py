"""Scenes, the embedded data set: compositions of real artwork with exact annotations, generated from (seed, index)."""

from edgevl.data.scenes.captions import Referring, Statement
from edgevl.data.scenes.materialize import materialize
from edgevl.data.scenes.names import ANSWERS, CATEGORIES, COLORS, FEW_CATEGORIES, GROUP_OF, GROUPS, SIZES, SPLITS
from edgevl.data.scenes.questions import QUESTION_KINDS, Question
from edgevl.data.scenes.scene import MIN_SIZE, Scene, SceneObject, Scenes
from edgevl.data.scenes.vocabulary import VOCABULARY

__all__ = [
    "ANSWERS",
    "CATEGORIES",
    "COLORS",
    "FEW_CATEGORIES",
    "GROUPS",
    "GROUP_OF",
    "MIN_SIZE",
    "QUESTION_KINDS",
    "SIZES",
    "SPLITS",
    "VOCABULARY",
    "Question",
    "Referring",
    "Scene",
    "SceneObject",
    "Scenes",
    "Statement",
    "materialize",
]
