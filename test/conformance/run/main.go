// Command run runs the tests of all rows on one engine, prints the table, and
// writes docs/reference/conformance.md if every row is as the table says.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"time"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/engine/engines"
	"github.com/external-lb/external-lb/test/conformance"
)

func main() {
	engine := flag.String("engine", string(v1alpha1.EngineNginx), "nginx, haproxy or lvs; haproxy+lvs, where the kernel carries datagrams; or octavia, a provider's cloud")
	kubernetes := flag.String("kubernetes", "", "a minor release, such as 1.34 (default: the newest)")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, v1alpha1.Engine(*engine), *kubernetes); err != nil {
		fmt.Fprintln(os.Stderr, err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, engine v1alpha1.Engine, kubernetes string) error {
	if !conformance.Known(engine) {
		return fmt.Errorf("engine %q: want one of %s, or %s", engine, engines.Table.Names(), conformance.Octavia)
	}
	record := conformance.NewRecord(engine)
	// That a test fails is in the table; that one has not run is, too.
	suiteErr := suite(ctx, record, engine, kubernetes)
	wrong := conformance.Print(os.Stdout, record.Results())
	if wrong > 0 || suiteErr != nil {
		return fmt.Errorf("%d of %d rows are not as they should be (go test: %v)", wrong, len(conformance.Rows), suiteErr)
	}
	return os.WriteFile(filepath.Join("docs", "reference", "conformance.md"), []byte(conformance.Page()), 0o644)
}

// suite runs the tests and follows them.
func suite(ctx context.Context, record *conformance.Record, engine v1alpha1.Engine, kubernetes string) error {
	cmd := exec.CommandContext(ctx, "go", "test", "-json", "-count=1", "-timeout=60m", "-run", `^Test[SE][0-9][0-9]_`, "./test/e2e",
		"-engine="+string(engine), "-kubernetes="+kubernetes)
	cmd.Stderr = os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	if err := follow(out, record); err != nil {
		return err
	}
	return cmd.Wait()
}

// event is a line of `go test -json`.
type event struct {
	Action, Test, Output string
	Elapsed              float64 // in seconds
}

var outcomes = map[string]conformance.Outcome{"pass": conformance.Passed, "fail": conformance.Failed, "skip": conformance.Skipped}

// follow shows how far the tests are, and what those that fail have to say.
func follow(in io.Reader, record *conformance.Record) error {
	said := map[string]string{}
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var e event
		if json.Unmarshal(lines.Bytes(), &e) != nil { // the compiler's words
			fmt.Fprintln(os.Stderr, lines.Text())
			continue
		}
		if e.Action == "output" {
			said[e.Test] += e.Output
			continue
		}
		o, ended := outcomes[e.Action]
		if !ended {
			continue
		}
		if o == conformance.Failed {
			fmt.Fprint(os.Stderr, said[e.Test])
		}
		delete(said, e.Test)
		took := time.Duration(e.Elapsed * float64(time.Second))
		if record.Add(e.Test, o, took); e.Test != "" && !strings.Contains(e.Test, "/") {
			fmt.Fprintf(os.Stderr, "%s %s (%s)\n", e.Test, o, took.Round(100*time.Millisecond))
		}
	}
	return lines.Err()
}
