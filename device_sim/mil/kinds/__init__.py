"""Kinds of models that are one function of their features: a function and an entry for each.

Arithmetic is in float64, whatever the policy: their parameters are doubles, and there are no ops between
which anything could be rounded.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from device_sim.mil.kinds import (
    boxes,
    encoding,
    linear,
    neighbors,
    numbers,
    recommending,
    support_vectors,
    trees,
)
from device_sim.mil.kinds.binding import Bound, Run

KINDS: Final[dict[str, Callable[[Bound], Run]]] = {
    "glmRegressor": linear.glm_regressor,
    "glmClassifier": linear.glm_classifier,
    "treeEnsembleRegressor": trees.tree_ensemble_regressor,
    "treeEnsembleClassifier": trees.tree_ensemble_classifier,
    "supportVectorRegressor": support_vectors.support_vector_regressor,
    "supportVectorClassifier": support_vectors.support_vector_classifier,
    "kNearestNeighborsClassifier": neighbors.k_nearest_neighbors_classifier,
    "oneHotEncoder": encoding.one_hot_encoder,
    "categoricalMapping": encoding.categorical_mapping,
    "dictVectorizer": encoding.dict_vectorizer,
    "featureVectorizer": numbers.feature_vectorizer,
    "imputer": numbers.imputer,
    "scaler": numbers.scaler,
    "normalizer": numbers.normalizer,
    "arrayFeatureExtractor": numbers.array_feature_extractor,
    "identity": numbers.identity,
    "nonMaximumSuppression": boxes.non_maximum_suppression,
    "itemSimilarityRecommender": recommending.item_similarity_recommender,
}

_APPLE_DATA: Final = "its parameters are in a form of Apple's that is not documented"
_IN_THE_SYSTEM: Final = "its network is part of Apple's systems, not of the file"
REFUSED: Final[dict[str, str]] = {
    "bayesianProbitRegressor": "how its outputs follow from its parameters is not documented",
    "classConfidenceThresholding": "what it makes of its curves is not documented",
    "customModel": "it runs code of the app",
    "textClassifier": _APPLE_DATA,
    "wordTagger": _APPLE_DATA,
    "gazetteer": _APPLE_DATA,
    "wordEmbedding": _APPLE_DATA,
    "visionFeaturePrint": _IN_THE_SYSTEM,
    "audioFeaturePrint": _IN_THE_SYSTEM,
    "soundAnalysisPreprocessing": "how it makes spectrograms is not documented",
    "serializedModel": "what is in it is not documented",
}
"""Kinds that cannot be run off a device, and why."""

__all__ = ["KINDS", "REFUSED", "Bound", "Run"]
