"""A v1 entry script: the line that is the model, at the points of the request."""

import json
import os


def init():
    global line
    with open(os.path.join(os.environ["AZUREML_MODEL_DIR"], "line.json")) as file:
        line = json.load(file)


def run(data):
    points = json.loads(data)["data"]
    return {"predictions": [line["slope"] * x + line["intercept"] for x in points]}
