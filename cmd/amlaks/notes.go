package main

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/amlaks/amlaks/reconcile"
)

// repeatWarning is how long the daemon keeps quiet about a warning that still holds.
const repeatWarning = 24 * time.Hour

// noteLog tells of what plans note: of each note when it is new, which it is too when it says
// something else than before, and of a warning once a day.
type noteLog struct {
	now func() time.Time

	mu   sync.Mutex
	said map[noteText]time.Time
}

// noteText is a note as its reader knows it again.
type noteText struct {
	address reconcile.Address
	level   reconcile.Level
	reason  reconcile.Reason
	message string
}

func (l *noteLog) write(ctx context.Context, log *slog.Logger, notes []reconcile.Note) {
	l.mu.Lock()
	defer l.mu.Unlock()
	still := make(map[noteText]time.Time, len(notes))
	for _, n := range notes {
		text := noteText{n.Address, n.Level, n.Reason, n.Message}
		said, known := l.said[text]
		if now := l.now(); !known || n.Level == reconcile.Warning && now.Sub(said) >= repeatWarning {
			level := slog.LevelInfo
			if n.Level == reconcile.Warning {
				level = slog.LevelWarn
			}
			attributes := []any{"address", n.Address, "reason", n.Reason}
			if n.Hint != "" {
				attributes = append(attributes, "hint", n.Hint)
			}
			log.Log(ctx, level, n.Message, attributes...)
			said = now
		}
		still[text] = said
	}
	l.said = still
}
