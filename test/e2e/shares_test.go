package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/test/conformance"
	"github.com/external-lb/external-lb/test/lab"
	"github.com/external-lb/external-lb/test/share"
)

// shares is how many processes share the tests of an engine, each with a cluster of its
// own. Some run at once: tests wait more than they work. Hosts with LVS work more: they are
// emulated.
func (e testedEngine) shares() int {
	switch {
	case e.part != "", e.name == v1alpha1.EngineLVS && testing.Short():
		return 1
	case e.name == v1alpha1.EngineLVS:
		return 3
	}
	return 2
}

// isShort reports whether only some tests are run on an engine. All are run on nginx, and those of datagrams beside it.
func (e testedEngine) isShort() bool {
	return testing.Short() && e.part == "" && e.name != v1alpha1.EngineNginx
}

// shortRows are about what hosts do with traffic. The others are about what the controller does.
var shortRows = []string{"S11", "S15", "S16", "S18", "S21", "S22", "S28", "S29", "S35", "S36", "E10", "E12", "E13"}

// ofEngines begin the names of other tests that see what an engine does.
var ofEngines = []string{
	"Agent", "Commands_Diff", "Commands_Render", "ControlPlane", "Datagrams", "Fault", "Health", "Input_Hostile", "Move", "Nodes", "Pods",
	"Policy", "ProxyMode", "TLS", "Templates", "Top", "Uninstall", "Upgrade", "VRRP",
}

// tests are those that are run on an engine, as a pattern.
func (e testedEngine) tests() string {
	switch {
	case e.part != "":
		return e.part
	case e.isShort() && e.name == v1alpha1.EngineLVS: // whose hosts are emulated
		return "^Test(LVS|" + strings.Join(shortRows, "|") + ")_"
	case e.isShort():
		return "^Test(" + strings.Join(slices.Concat(shortRows, ofEngines), "|") + ")"
	}
	return "."
}

// proves lists the rows that these tests prove; none: all.
func (e testedEngine) proves() []string {
	if e.isShort() {
		return shortRows
	}
	return e.rows
}

// process runs some of the tests on an engine.
type process struct {
	share.Process
	engine  testedEngine
	results string // file
}

// onEveryEngine runs this program for each engine, and prints what each process said when
// it has ended, and then the tables of rows.
func onEveryEngine() int {
	dir, err := os.MkdirTemp("", "external-lb-e2e-")
	if err != nil {
		return share.Failed(err)
	}
	defer os.RemoveAll(dir)
	binary, err := lab.Build(context.Background(), dir)
	if err != nil {
		return share.Failed(err)
	}
	processes, err := processesIn(dir, binary)
	if err != nil {
		return share.Failed(err)
	}
	var all []share.Process
	for _, p := range processes {
		all = append(all, p.Process)
	}
	code := share.Run(all...)
	if share.Filtered() {
		return code
	}
	var every results
	for _, e := range engines {
		var all []result
		for _, p := range processes {
			if p.engine.called() != e.called() {
				continue
			}
			its, err := readResults(p.results)
			if err != nil {
				code = share.Failed(err) // it has ended early
			}
			all = append(all, its...)
		}
		for _, r := range all {
			r.Engine = e.called()
			every.all = append(every.all, r)
		}
		if e.part == "" || len(e.rows) > 0 {
			code = max(code, conforms(e.called(), all, e.proves()...))
		}
	}
	if *resultsFile != "" {
		if err := every.write(*resultsFile); err != nil {
			code = share.Failed(err)
		}
	}
	return code
}

func processesIn(dir, binary string) (all []process, err error) {
	for _, e := range engines {
		if e.part != "" && share.Filtered() {
			continue
		}
		flags, err := share.Deal(e.shares(), e.tests(), exec.Command(os.Args[0], "-engine="+string(e.called())))
		if err != nil {
			return nil, err
		}
		for i, its := range flags {
			results := filepath.Join(dir, fmt.Sprintf("%s-%d.json", e.called(), i))
			its = append(slices.Clone(its), "-engine="+string(e.called()), "-results="+results, "-binary="+binary)
			name := fmt.Sprintf("%s, %d of %d", e.called(), i+1, len(flags))
			all = append(all, process{share.Process{Name: name, Cmd: exec.Command(os.Args[0], its...)}, e, results})
		}
	}
	return takingTurns(all), nil
}

// takingTurns lets a process whose hosts are emulated run beside one whose hosts are not: several of the first
// kind leave each other no processor. They are slow, so they begin.
func takingTurns(all []process) (turns []process) {
	emulated := func(p process) bool { return p.engine.name == v1alpha1.EngineLVS || p.engine.datagrams != "" }
	slow, quick := slices.Clone(all), slices.Clone(all)
	slow = slices.DeleteFunc(slow, func(p process) bool { return !emulated(p) })
	quick = slices.DeleteFunc(quick, emulated)
	for i := range max(len(slow), len(quick)) {
		turns = append(turns, slow[min(i, len(slow)):min(i+1, len(slow))]...)
		turns = append(turns, quick[min(i, len(quick)):min(i+1, len(quick))]...)
	}
	return turns
}

// result is what became of a test.
type result struct {
	Test    string
	Outcome conformance.Outcome
	Took    time.Duration
	Engine  v1alpha1.Engine `json:",omitempty"` // where several are told of
}

// results are those of one process.
type results struct {
	mu  sync.Mutex
	all []result
}

func (r *results) add(t *testing.T, took time.Duration) {
	o := conformance.Passed
	switch {
	case t.Failed():
		o = conformance.Failed
	case t.Skipped():
		o = conformance.Skipped
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, result{Test: t.Name(), Outcome: o, Took: took})
}

func (r *results) write(file string) error {
	data, err := json.Marshal(r.all)
	if err != nil {
		return err
	}
	return os.WriteFile(file, data, 0o600)
}

func readResults(file string) (all []result, err error) {
	data, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(data, &all)
	}
	return all, err
}
