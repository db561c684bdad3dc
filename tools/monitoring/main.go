// Command monitoring writes the dashboards for Grafana into a directory, each a file of JSON.
// Its tests hold alerts and dashboards to the metrics that there are.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "say the directory")
		os.Exit(2)
	}
	if err := write(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func write(dir string) error {
	for name, builder := range dashboards() {
		built, err := builder.Build()
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		text, err := json.MarshalIndent(built, "", " ")
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, "external-lb-"+name+".json"), append(text, '\n'), 0o644); err != nil {
			return err
		}
	}
	return nil
}

func dashboards() map[string]*dashboard.DashboardBuilder {
	return map[string]*dashboard.DashboardBuilder{"overview": overview(), "balancer": ofBalancer(), "service": ofService()}
}
