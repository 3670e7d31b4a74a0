package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// maxModelBytes bounds the model file: the larger of the two committed ones has 2 KiB.
const maxModelBytes = 1 << 20

// model is a fitted StandardScaler and a multinomial LogisticRegression, as
// train.py writes them.
type model struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	// Inputs are the columns of a request's row, Features those the model looks at.
	Inputs   []string `json:"inputs"`
	Features []string `json:"features"`
	// Means and Scales standardise a feature: (x - mean) / scale.
	Means  []float64 `json:"means"`
	Scales []float64 `json:"scales"`
	// Intercepts and Coefficients have one entry (one row) per class.
	Classes      []string    `json:"classes"`
	Intercepts   []float64   `json:"intercepts"`
	Coefficients [][]float64 `json:"coefficients"`

	columns []int // of Features among Inputs
}

// loadModel reads the one .json file at or below dir. A registered file lies in the
// model's folder, a registered folder keeps its own name in between.
func loadModel(dir string) (*model, error) {
	var found []string
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() && strings.HasSuffix(path, ".json") {
			found = append(found, path)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("look for the model: %w", err)
	}
	if len(found) != 1 {
		return nil, fmt.Errorf("look for the model in %s: want one .json file, found %d", dir, len(found))
	}
	f, err := os.Open(found[0])
	if err != nil {
		return nil, fmt.Errorf("open the model: %w", err)
	}
	defer f.Close()
	m := &model{}
	if err := json.NewDecoder(io.LimitReader(f, maxModelBytes)).Decode(m); err != nil {
		return nil, fmt.Errorf("read the model %s: %w", found[0], err)
	}
	if err := m.check(); err != nil {
		return nil, fmt.Errorf("read the model %s: %w", found[0], err)
	}
	return m, nil
}

// check refuses a file whose parts do not fit each other, and finds the columns.
func (m *model) check() error {
	features, classes := len(m.Features), len(m.Classes)
	switch {
	case m.Name == "" || m.Version == "":
		return errors.New("name or version is missing")
	case features == 0 || classes < 2:
		return fmt.Errorf("%d features and %d classes: want at least 1 and 2", features, classes)
	case len(m.Means) != features || len(m.Scales) != features:
		return fmt.Errorf("%d features, but %d means and %d scales", features, len(m.Means), len(m.Scales))
	case len(m.Intercepts) != classes || len(m.Coefficients) != classes:
		return fmt.Errorf("%d classes, but %d intercepts and %d rows of coefficients",
			classes, len(m.Intercepts), len(m.Coefficients))
	case slices.Contains(m.Scales, 0):
		return errors.New("a scale is 0")
	}
	for i, row := range m.Coefficients {
		if len(row) != features {
			return fmt.Errorf("%s: %d features, but %d coefficients", m.Classes[i], features, len(row))
		}
	}
	m.columns = make([]int, features)
	for i, name := range m.Features {
		if m.columns[i] = slices.Index(m.Inputs, name); m.columns[i] < 0 {
			return fmt.Errorf("feature %q is none of the inputs", name)
		}
	}
	return nil
}

// id is the model as amlaks.yaml names it: wine:2.
func (m *model) id() string { return m.Name + ":" + m.Version }

// predict returns the likeliest class of a row of Inputs, and the probability of each.
func (m *model) predict(row []float64) (string, []float64, error) {
	p := make([]float64, len(m.Classes))
	for k := range p {
		p[k] = m.Intercepts[k]
		for i, column := range m.columns {
			p[k] += m.Coefficients[k][i] * (row[column] - m.Means[i]) / m.Scales[i]
		}
	}
	// Softmax; the largest is taken off first, so that no exponential overflows.
	largest, sum := slices.Max(p), 0.0
	for k := range p {
		p[k] = math.Exp(p[k] - largest)
		sum += p[k]
	}
	best := 0
	for k := range p {
		p[k] /= sum
		if p[k] > p[best] {
			best = k
		}
	}
	if math.IsNaN(p[best]) {
		return "", nil, errors.New("the numbers are too large to score")
	}
	return m.Classes[best], p, nil
}
