// Command amlaks runs Azure ML models on AKS from one committed file.
package main

import (
	"os"
	"runtime/debug"
)

func main() {
	if os.Getenv("GOGC") == "" {
		// It waits for others most of its time, so memory is the dearer thing: a first apply of
		// 1,000 services takes 149 MiB this way and 178 MiB without, for a tenth more CPU.
		debug.SetGCPercent(40)
	}
	os.Exit(run(os.Args[1:], standardIO()))
}
