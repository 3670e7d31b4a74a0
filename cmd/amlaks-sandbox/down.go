package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
)

// patience is for a sandbox that stops its clusters; after it, it is killed, and the kernel
// ends its children with it.
const patience = 60 * time.Second

func down(f *folder) *cobra.Command {
	var purge bool
	command := &cobra.Command{
		Use:   "down --dir DIR",
		Short: "End the sandbox; what is in its folder stays",
		Args:  cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			p, running := f.recorded()
			if !running {
				fmt.Fprintln(command.ErrOrStderr(), "no sandbox runs in", f.dir)
			} else {
				gone, err := p.end(command.Context(), syscall.SIGTERM, patience)
				if err == nil && !gone {
					gone, err = p.end(command.Context(), syscall.SIGKILL, patience)
				}
				if err != nil {
					return err
				}
				if !gone {
					return fmt.Errorf("process %d does not end", p.PID)
				}
				fmt.Fprintln(command.ErrOrStderr(), "the sandbox has ended")
			}
			if err := f.removeSocket(); err != nil {
				return err
			}
			if err := remove(f.path("process.json")); err != nil {
				return err
			}
			if purge {
				return f.purge()
			}
			return nil
		},
	}
	command.Flags().BoolVar(&purge, "purge", false, "remove the sandbox's state too")
	return command
}

// removeSocket takes away the socket, and the temporary folder that a long path put it in.
func (f *folder) removeSocket() error {
	content, err := os.ReadFile(f.path("admin"))
	if err != nil {
		return nil // there is none
	}
	socket := strings.TrimSpace(string(content))
	if err := remove(socket); err != nil {
		return err
	}
	if dir := filepath.Dir(socket); dir != f.dir {
		if err := remove(dir); err != nil { // refuses a folder that holds something else
			return err
		}
	}
	return remove(f.path("admin"))
}

func remove(name string) error {
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// purge removes what a sandbox makes, by name, and the folder if nothing else is in it.
func (f *folder) purge() error {
	for _, name := range []string{"sandbox.json", "kubeconfig", "arm.json", "registry", "blobs", "git", "ssh", "clusters", "env", "log", "lock"} {
		if err := os.RemoveAll(f.path(name)); err != nil {
			return err
		}
	}
	if entries, err := os.ReadDir(f.dir); err == nil && len(entries) == 0 {
		return remove(f.dir)
	}
	return nil
}
