package reconcile

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/amlaks/amlaks/schema"
)

// A saved plan is a promise: what was read and approved is what is done. Each change keeps a
// digest of its decision. Before it is carried out, the decision is made again upon what is
// there by then; if it is the same, unrelated changes in between do not matter, and if it is
// another, the change is refused and the new one is shown.
//
// The plan holds no secret and no body to be sent: what is sent comes from the file and from
// the world at the time. So an edited plan cannot make amlaks do what the file does not say;
// its digest is there to tell damage from intent.

// digest is over what the change would do and upon what.
func (c *Change) digest() string {
	return digestOf(struct {
		Address      Address
		Action       Action
		Reason       Reason
		Diff         []FieldDiff
		Precondition Precondition
	}{c.Address, c.Action, c.Reason, c.Diff, c.Precondition})
}

// digestOf is sha256:HEX of v's JSON form.
func digestOf(v any) string {
	sum := sha256.New()
	encoder := json.NewEncoder(sum)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		// Only values that came out of JSON, or go into it, get here.
		return ""
	}
	return "sha256:" + hex.EncodeToString(sum.Sum(nil))
}

// Encode gives the plan's JSON form, the same bytes for the same plan. It is what
// `plan -o json` prints and `plan --out` writes.
func (p *Plan) Encode() ([]byte, error) {
	data, err := json.Marshal(p)
	if err != nil {
		return nil, fmt.Errorf("encode the plan: %w", err)
	}
	digest, err := contentDigest(data)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	err = encoder.Encode(struct {
		*Plan
		Digest string `json:"digest"`
	}{p, digest})
	return out.Bytes(), err
}

// contentDigest is over a plan's JSON without its digest, whatever its white space and the
// order of its keys.
func contentDigest(data []byte) (string, error) {
	var content map[string]any
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber()
	if err := decoder.Decode(&content); err != nil {
		return "", err
	}
	delete(content, "digest")
	return digestOf(content), nil
}

// DecodePlan reads a plan that Encode gave. name is that of its file, for errors, which have
// ReasonInvalidPlan. A plan whose digest is not right is given all the same, beside the
// error: it can be shown, and must not be carried out.
func DecodePlan(name string, data []byte) (*Plan, error) {
	invalid := func(hint string, format string, args ...any) error {
		return &Failure{Reason: ReasonInvalidPlan, Err: fmt.Errorf(format, args...), Hint: hint}
	}
	const again = "make it again with `amlaks plan --out`"
	var document any
	decoder := json.NewDecoder(bytes.NewReader(data))
	if err := decoder.Decode(&document); err != nil {
		line, column := position(data, decoder.InputOffset())
		if syntax := (*json.SyntaxError)(nil); errors.As(err, &syntax) {
			line, column = position(data, syntax.Offset-1)
		}
		return nil, invalid(again, "%s:%d:%d: not a plan: %v", name, line, column, err)
	}
	if rest := bytes.TrimSpace(data[decoder.InputOffset():]); len(rest) > 0 {
		line, column := position(data, decoder.InputOffset()+1)
		return nil, invalid(again, "%s:%d:%d: not a plan: something follows it", name, line, column)
	}
	object, _ := document.(map[string]any)
	version, _ := object["formatVersion"].(string)
	major, _, _ := strings.Cut(version, ".")
	if ours, _, _ := strings.Cut(PlanFormat, "."); major != ours {
		line, column := locate(data, "/formatVersion")
		if version == "" {
			return nil, invalid(again, "%s:%d:%d: formatVersion: not a plan of amlaks", name, line, column)
		}
		return nil, invalid("take the amlaks that made it, or make it again with this one",
			"%s:%d:%d: formatVersion: the plan has format %s; this amlaks reads %s.x", name, line, column, version, ours)
	}
	if err := schema.CheckPlan(document); err != nil {
		line, column := locate(data, err.Pointer)
		return nil, invalid(again, "%s:%d:%d: %s: %s", name, line, column, strings.TrimPrefix(err.Pointer, "/"), err.Message)
	}
	var p Plan
	if err := json.Unmarshal(data, &p); err != nil {
		return nil, invalid(again, "%s: not a plan: %v", name, err)
	}
	digest, err := contentDigest(data)
	if err != nil || digest != object["digest"] {
		line, column := locate(data, "/digest")
		return &p, invalid(again, "%s:%d:%d: digest: the plan was changed after it was made (its content has %s)", name, line, column, digest)
	}
	return &p, nil
}

// Bind makes a saved plan ready to be carried out: fresh is a plan made just now, from the
// file and upon the world, with the saved one's options. What is still the same decision is
// taken over; what is done already is left out; everything else is refused as stale when it
// is its turn. extra counts what is pending now and is not in the saved plan.
func (p *Plan) Bind(fresh *Plan) (bound *Plan, extra int) {
	now := make(map[Address]*Change, len(fresh.Changes))
	for i := range fresh.Changes {
		now[fresh.Changes[i].Address] = &fresh.Changes[i]
	}
	bound = &Plan{FormatVersion: p.FormatVersion, Stack: p.Stack, Target: p.Target, Options: p.Options, outputs: fresh.outputs}
	planned := map[Address]bool{}
	for _, c := range p.Changes {
		f := now[c.Address]
		planned[c.Address] = c.Action.Pending()
		if f != nil {
			c.resource, c.live = f.resource, f.live
		}
		switch {
		case f == nil && (c.Action.deletes() || !c.Action.Pending()):
			c.Action = NoOp // it is gone
		case f == nil: // it was declared, and is no longer
			c.now = &Change{Address: c.Address, Driver: c.Driver, Action: NoOp, Why: "it is not in the file any more"}
		case (f.Action == NoOp || f.Action == Wait) && f.made(&c): // done by now, or somebody is at it
			c.Action, c.Why = f.Action, f.Why
		case !c.Action.Pending(): // somebody changed what this plan leaves alone
			c.Action = NoOp
		case !c.is(f):
			c.now = f.instead()
		}
		bound.Changes = append(bound.Changes, c)
	}
	for _, f := range fresh.Changes {
		if f.Action.Pending() && !planned[f.Address] {
			extra++
		}
	}
	return bound, extra
}

// instead is c as it is shown in the place of what was planned.
func (c *Change) instead() *Change {
	now := *c
	if now.Action == NoOp && now.Why == "" {
		now.Why = "there is nothing to do any more: it is as the file says by now, which is not what was planned"
	}
	return &now
}

// is tells whether now is still the decision that c was. What c could not know when it was
// planned may be anything.
func (c *Change) is(now *Change) bool {
	return c.Digest == now.Digest ||
		c.Action == now.Action && c.Reason == now.Reason && c.Precondition == now.Precondition && sameDiff(c.Diff, now.Diff)
}

// made tells whether c, which has nothing to do, is planned having been carried out. What was
// to be created must be what the file says now: others may depend on it.
func (c *Change) made(planned *Change) bool {
	if planned.Action != Create || c.resource == nil {
		return true
	}
	return sameDiff(planned.Diff, compareOwned(resolveBody(c.resource.Desired, nil), nil, c.resource.Compare))
}

func sameDiff(planned, now []FieldDiff) bool {
	return slices.EqualFunc(planned, now, func(p, n FieldDiff) bool {
		return p.Path == n.Path && reflect.DeepEqual(normal(p.Before), normal(n.Before)) && fits(normal(p.After), normal(n.After))
	})
}

// fits compares values; Unknown fits everything.
func fits(planned, now any) bool {
	if planned == Unknown || now == Unknown {
		return true
	}
	switch planned := planned.(type) {
	case map[string]any:
		now, ok := now.(map[string]any)
		return ok && maps.EqualFunc(planned, now, fits)
	case []any:
		now, ok := now.([]any)
		return ok && slices.EqualFunc(planned, now, fits)
	}
	return planned == now
}

// reread makes c's decision again upon what is there now, and tells whether to go on with it.
// When nothing is left to do it gives the outputs of what is there; when something else is, it
// puts that into c.now.
func (w *walk) reread(ctx context.Context, driver Driver, c *Change, step Step) (proceed bool, outputs map[string]string, err error) {
	if c.Action == Wait {
		return true, nil, nil
	}
	live, err := driver.Read(ctx, step)
	if err != nil {
		return false, nil, fmt.Errorf("read it again: %w", err)
	}
	if live == nil && c.Action.deletes() {
		return false, nil, nil
	}
	now := Change{Address: c.Address, Driver: c.Driver, Summary: c.Summary, DependsOn: c.DependsOn, resource: c.resource, live: live}
	w.plan.decide(&now, step.Outputs)
	switch {
	case now.Action == NoOp && now.made(c):
		return false, live.Outputs, nil
	case now.Action == Wait && now.made(c):
		c.Action, c.live = Wait, live // somebody else has begun the same; it is joined
		return true, nil, nil
	case !c.is(&now):
		c.now = now.instead()
		return false, nil, nil
	}
	c.live = live
	return true, nil, nil
}
