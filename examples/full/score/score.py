"""Scores a customer: a logistic regression whose weights are a JSON file."""

import json
import math
import os

weights = None


def init():
    """Runs once, before the first request; a replica is ready when it returns."""
    global weights
    # One model: AZUREML_MODEL_DIR is its folder. Several: the folder of all of them.
    path = os.path.join(os.environ["AZUREML_MODEL_DIR"], "weights.json")
    with open(path, encoding="utf-8") as file:
        weights = json.load(file)


def run(data):
    """Runs for each request; data is the body, what it returns is the answer."""
    features = json.loads(data)["features"]
    z = weights["bias"] + sum(w * x for w, x in zip(weights["weights"], features, strict=True))
    return {"probability": 1 / (1 + math.exp(-z))}
