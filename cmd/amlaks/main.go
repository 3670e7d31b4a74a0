// Command amlaks runs Azure ML models on AKS from one committed file.
package main

import (
	"os"
)

func main() {
	os.Exit(run(os.Args[1:], standardIO()))
}
