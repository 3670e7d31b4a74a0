package reconcile

import (
	"cmp"
	"slices"
)

// Level is how much a note matters.
type Level string

// The levels of a note.
const (
	Warning Level = "warning" // applying will work, and something will not be as it should
	Info    Level = "info"
)

// Note is what a plan says beside its changes: a service that no node has room for, a
// certificate that expires. It stops nothing; what must stop a change is a refusal. It is part
// of no digest, so a saved plan stays what it was when only a note is another by then. The
// same world and file give the same notes: a date stands in it as a date.
type Note struct {
	Address Address `json:"address"`
	Level   Level   `json:"level"`
	Reason  Reason  `json:"reason,omitempty"` // a word to search for
	Message string  `json:"message"`          // for people
	Hint    string  `json:"hint,omitempty"`   // what to do
	// Data are the message's figures for programs; its keys depend on the reason.
	Data map[string]any `json:"data,omitempty"`
}

// notes gathers what drivers said, the warnings first.
func (w *World) notes() []Note {
	var all []Note
	for _, list := range [][]Live{w.Live, w.Absent} {
		for _, l := range list {
			for _, n := range l.Notes {
				if n.Address == "" {
					n.Address = l.Address
				}
				all = append(all, n)
			}
		}
	}
	slices.SortStableFunc(all, func(a, b Note) int {
		return cmp.Or(-cmp.Compare(a.Level, b.Level), cmp.Compare(a.Address, b.Address), cmp.Compare(a.Reason, b.Reason), cmp.Compare(a.Message, b.Message))
	})
	return all
}
