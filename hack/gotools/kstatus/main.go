// kstatus tells how Flux judges objects: a JSON array of objects on standard input, the array of their results on
// standard output. The judging is that of github.com/fluxcd/cli-utils, by which Flux waits; nothing is decided here.
package main

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

func main() {
	if err := judge(); err != nil {
		fmt.Fprintf(os.Stderr, "kstatus: %v\n", err)
		os.Exit(1)
	}
}

func judge() error {
	var objects []unstructured.Unstructured
	if err := json.NewDecoder(os.Stdin).Decode(&objects); err != nil {
		return fmt.Errorf("standard input: %w", err)
	}
	results := make([]map[string]string, 0, len(objects))
	for i := range objects {
		result, err := status.Compute(&objects[i])
		if err != nil {
			return fmt.Errorf("object %d: %w", i, err)
		}
		results = append(results, map[string]string{"status": result.Status.String(), "message": result.Message})
	}
	return json.NewEncoder(os.Stdout).Encode(results)
}
