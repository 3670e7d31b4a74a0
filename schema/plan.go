package schema

import (
	_ "embed"
	"errors"
	"slices"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v5"
)

//go:embed plan.schema.json
var plan string

// Plan returns the text of plan.schema.json: what `amlaks plan -o json` prints and
// `amlaks plan --out` writes. The caller owns it.
func Plan() []byte { return []byte(plan) }

// PlanURL is the $id of plan.schema.json. Nothing is fetched from it.
const PlanURL = "https://amlaks.io/schema/v1/plan.schema.json"

// Violation is where a document is not what its schema says.
type Violation struct {
	Pointer string // JSON pointer (RFC 6901) of the value
	Message string
}

// CheckPlan checks decoded JSON (as encoding/json gives it) against plan.schema.json and
// gives the first violation, or nil.
func CheckPlan(document any) *Violation {
	compiled, err := Compile(PlanURL, plan)
	if err == nil {
		err = compiled.Validate(document)
	}
	if err == nil {
		return nil
	}
	violation := (*jsonschema.ValidationError)(nil)
	if !errors.As(err, &violation) {
		return &Violation{Message: err.Error()}
	}
	for len(violation.Causes) > 0 {
		violation = slices.MinFunc(violation.Causes, func(a, b *jsonschema.ValidationError) int {
			return strings.Compare(a.InstanceLocation, b.InstanceLocation)
		})
	}
	return &Violation{Pointer: violation.InstanceLocation, Message: violation.Message}
}
