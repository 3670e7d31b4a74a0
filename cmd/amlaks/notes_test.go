package main

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/amlaks/amlaks/reconcile"
)

// TestNoteLog: a daemon that plans every half minute does not fill its log with what it knows.
func TestNoteLog(t *testing.T) {
	warning := reconcile.Note{Address: "kube/prod/Secret/amlaks-fe-tls", Level: reconcile.Warning, Reason: reconcile.ReasonExpires, Message: "expires at 2026-12-01", Hint: "renew it"}
	info := reconcile.Note{Address: "kube/dev/Secret/amlaks-fe-tls", Level: reconcile.Info, Reason: reconcile.ReasonExpires, Message: "expires at 2027-12-01"}
	renewed := warning
	renewed.Message = "expires at 2026-12-20"
	now := time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
	l := &noteLog{now: func() time.Time { return now }}
	for _, step := range []struct {
		name  string
		after time.Duration
		notes []reconcile.Note
		want  []string
	}{
		{"new", 0, []reconcile.Note{warning, info}, []string{"WARN expires at 2026-12-01 renew it", "INFO expires at 2027-12-01"}},
		{"again", 30 * time.Second, []reconcile.Note{warning, info}, nil},
		{"almost a day", 24*time.Hour - 31*time.Second, []reconcile.Note{warning, info}, nil},
		{"a day", time.Second, []reconcile.Note{warning, info}, []string{"WARN expires at 2026-12-01 renew it"}},
		{"changed", time.Second, []reconcile.Note{renewed, info}, []string{"WARN expires at 2026-12-20 renew it"}},
		{"gone", time.Second, nil, nil},
		{"back", time.Second, []reconcile.Note{renewed}, []string{"WARN expires at 2026-12-20 renew it"}},
	} {
		now = now.Add(step.after)
		var text bytes.Buffer
		l.write(t.Context(), slog.New(slog.NewTextHandler(&text, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey || a.Key == "address" || a.Key == "reason" {
				return slog.Attr{}
			}
			return a
		}})), step.notes)
		var got []string
		for line := range strings.Lines(text.String()) {
			got = append(got, strings.NewReplacer("level=", "", "msg=", "", "hint=", "", `"`, "", "\n", "").Replace(line))
		}
		if diff := cmp.Diff(step.want, got); diff != "" {
			t.Errorf("%s: %s", step.name, diff)
		}
	}
}
