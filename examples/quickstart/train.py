#!/usr/bin/env python3
"""Trains the two versions of the quickstart's model and records what they say.

Run it from this folder; it writes, byte for byte the same on every run with the
same scikit-learn:

    model/1/wine.json            version 1: four of the thirteen measurements
    model/2/wine.json            version 2: all of them
    server/testdata/heldout.json scikit-learn's own answers for the held-out rows
    request.json, expected.json  a sample request, and the classes each version gives

A model file holds numbers only, so that whatever serves it needs no Python, no
pickle and no trust in who wrote it.
"""

import json
import pathlib

import sklearn
from sklearn.datasets import load_wine
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

HERE = pathlib.Path(__file__).resolve().parent

# What each version looks at. A request always carries all thirteen columns, so a
# client needs no change when the version does.
VERSIONS = {
    "1": ["alcohol", "malic_acid", "ash", "alcalinity_of_ash"],
    "2": None,
}


def write(path, value):
    """Writes value as JSON; a list of numbers stays on one line."""
    path = HERE / path
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(render(value, "") + "\n")


def render(value, indent):
    deeper = indent + "  "
    if isinstance(value, dict):
        items = [f"{deeper}{json.dumps(k)}: {render(v, deeper)}" for k, v in value.items()]
        return "{\n" + ",\n".join(items) + "\n" + indent + "}"
    if isinstance(value, list) and value and isinstance(value[0], (list, dict)):
        items = [deeper + render(v, deeper) for v in value]
        return "[\n" + ",\n".join(items) + "\n" + indent + "]"
    return json.dumps(value)


def main():
    wine = load_wine()
    inputs = [str(name) for name in wine.feature_names]
    classes = [str(name) for name in wine.target_names]
    train_x, test_x, train_y, test_y = train_test_split(
        wine.data, wine.target, test_size=0.4, random_state=0, stratify=wine.target
    )
    print(f"scikit-learn {sklearn.__version__}: {len(train_y)} rows to train, {len(test_y)} held out")

    truth = [classes[i] for i in test_y]
    heldout = {"data": test_x.tolist(), "truth": truth, "versions": {}}
    predicted = {}
    for version, features in VERSIONS.items():
        features = features or inputs
        columns = [inputs.index(name) for name in features]
        fit = make_pipeline(StandardScaler(), LogisticRegression(tol=1e-8, max_iter=10_000))
        fit.fit(train_x[:, columns], train_y)
        scaler, regression = fit[0], fit[1]
        accuracy = fit.score(test_x[:, columns], test_y)
        print(f"wine:{version}: {len(features)} features, accuracy {accuracy:.4f} on the held-out rows")
        write(
            f"model/{version}/wine.json",
            {
                "name": "wine",
                "version": version,
                "inputs": inputs,
                "features": features,
                "means": scaler.mean_.tolist(),
                "scales": scaler.scale_.tolist(),
                "classes": classes,
                "intercepts": regression.intercept_.tolist(),
                "coefficients": regression.coef_.tolist(),
            },
        )
        predicted[version] = [classes[i] for i in fit.predict(test_x[:, columns])]
        heldout["versions"][version] = {
            "predictions": predicted[version],
            "probabilities": fit.predict_proba(test_x[:, columns]).tolist(),
        }
    write("server/testdata/heldout.json", heldout)

    # The sample holds a row that both versions get right and one that only the second does.
    rows = range(len(truth))
    both = next(i for i in rows if predicted["1"][i] == predicted["2"][i] == truth[i])
    only = next(i for i in rows if predicted["1"][i] != predicted["2"][i] == truth[i])
    write("request.json", {"data": test_x[[both, only]].tolist()})
    write("expected.json", {v: [p[both], p[only]] for v, p in predicted.items()})


if __name__ == "__main__":
    main()
