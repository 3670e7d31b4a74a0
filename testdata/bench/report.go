package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"text/tabwriter"
	"time"
)

// figure is one line of BENCH.json.
type figure struct {
	Row      string   `json:"row"`
	Ours     float64  `json:"ours"`
	Unit     string   `json:"unit"`
	Peer     *float64 `json:"peer"`
	PeerName string   `json:"peerName"`
	Ratio    *float64 `json:"ratio"` // ours to the peer's
	Reach    string   `json:"reach"`
	Met      *bool    `json:"met"` // null: nothing was set out to be reached
	Command  string   `json:"command"`
}

// report collects figures, and holds what rows share.
type report struct {
	dir     string
	runs    int
	command string
	row     string
	figures []figure
	closers []func()
}

func (r *report) close() {
	for i := len(r.closers) - 1; i >= 0; i-- {
		r.closers[i]()
	}
}

// say tells on stderr how far it is.
func (r *report) say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "%s %-9s %s\n", time.Now().UTC().Format("15:04:05"), r.row, fmt.Sprintf(format, args...))
}

// add records a figure; below, if not 0, is what it must stay under.
func (r *report) add(what string, ours float64, unit string, below float64) {
	f := figure{Row: r.row + ": " + what, Ours: ours, Unit: unit, Command: r.command + r.row}
	if below > 0 {
		met := ours < below
		f.Reach, f.Met = fmt.Sprintf("< %g %s", below, unit), &met
	}
	r.figures = append(r.figures, f)
}

// none records a count that must be 0.
func (r *report) none(what string, ours float64, unit string) {
	met := ours == 0
	r.figures = append(r.figures, figure{Row: r.row + ": " + what, Ours: ours, Unit: unit, Reach: "0 " + unit, Met: &met, Command: r.command + r.row})
}

// beside puts a peer beside the figure of that name. The first peer shares its line.
func (r *report) beside(what, name string, peer float64) {
	for i := range r.figures {
		f := &r.figures[i]
		if f.Row != r.row+": "+what {
			continue
		}
		ratio := f.Ours / peer
		if f.Peer == nil {
			f.Peer, f.PeerName, f.Ratio = &peer, name, &ratio
			return
		}
		other := *f
		other.Peer, other.PeerName, other.Ratio = &peer, name, &ratio
		r.figures = append(r.figures, other)
		return
	}
}

func (r *report) print(w io.Writer) {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "ROW\tOURS\tREACH\tMET\tPEER\t\tOURS/PEER")
	for _, f := range r.figures {
		met, peer, ratio := "", "", ""
		if f.Met != nil {
			met = map[bool]string{true: "yes", false: "NO"}[*f.Met]
		}
		if f.Peer != nil {
			peer, ratio = fmt.Sprintf("%.4g %s", *f.Peer, f.Unit), fmt.Sprintf("%.3f", *f.Ratio)
		}
		fmt.Fprintf(table, "%s\t%.4g %s\t%s\t%s\t%s\t%s\t%s\n", f.Row, f.Ours, f.Unit, f.Reach, met, peer, f.PeerName, ratio)
	}
	table.Flush()
}

func (r *report) write(file string) error {
	content, err := json.MarshalIndent(r.figures, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(content, '\n'), 0o644)
}
