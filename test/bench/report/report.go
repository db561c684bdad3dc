// Package report is what benchmarks measured: a file into which single suites are measured again, and its
// tables. Programs that measure write it, and the generator of the documentation reads it.
package report

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"slices"
)

// Report holds the latest figures of each suite on each engine, in the order of both names.
type Report struct {
	Suites []Suite `json:"suites"`
}

// Suite is what one suite measured on one engine.
type Suite struct {
	Name        string      `json:"suite"`
	Engine      string      `json:"engine"`
	Runs        int         `json:"runs"`
	Environment Environment `json:"environment"`
	// Floor says what the floor is made of.
	Floor string `json:"floor,omitempty"`
	Rows  []Row  `json:"rows"`
	// LeftOut are sizes that were asked for and not measured, each with the reason.
	LeftOut []string `json:"leftOut,omitempty"`
}

// Row is one thing that was measured at one size.
type Row struct {
	What     string            `json:"what"`
	Services int               `json:"services"`
	Nodes    int               `json:"nodes"`
	Figures  map[Metric]Spread `json:"figures"`
}

// HasFloor reports whether something was held against its floor.
func (r Row) HasFloor() bool { return r.Figures[Floor] != Spread{} }

// Spread is what several runs measured.
type Spread struct {
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
}

// Samples are single measurements, which become the rows of a suite.
type Samples struct {
	rows   []Row // without figures, as they came
	values []map[Metric][]float64
}

// Add what one run measured of something at a size.
func (s *Samples) Add(what string, services, nodes int, figures map[Metric]float64) {
	at := slices.IndexFunc(s.rows, func(r Row) bool { return r.What == what && r.Services == services && r.Nodes == nodes })
	if at < 0 {
		at = len(s.rows)
		s.rows = append(s.rows, Row{What: what, Services: services, Nodes: nodes})
		s.values = append(s.values, map[Metric][]float64{})
	}
	for metric, value := range figures {
		s.values[at][metric] = append(s.values[at][metric], value)
	}
}

// Rows are the medians of what was added, with the least and the most.
func (s *Samples) Rows() []Row {
	rows := slices.Clone(s.rows)
	for i := range rows {
		rows[i].Figures = map[Metric]Spread{}
		for metric, values := range s.values[i] {
			rows[i].Figures[metric] = spread(values)
		}
	}
	return rows
}

func spread(values []float64) Spread {
	values = slices.Sorted(slices.Values(values))
	n := len(values)
	return Spread{Median: round((values[(n-1)/2] + values[n/2]) / 2), Min: round(values[0]), Max: round(values[n-1])}
}

// round keeps four digits: more are noise.
func round(v float64) float64 {
	if v == 0 {
		return 0
	}
	scale := math.Pow(10, 3-math.Floor(math.Log10(math.Abs(v))))
	return math.Round(v*scale) / scale
}

// Put replaces what was known of a suite on its engine.
func (r *Report) Put(suites ...Suite) {
	for _, s := range suites {
		r.Suites = slices.DeleteFunc(r.Suites, func(old Suite) bool { return old.Name == s.Name && old.Engine == s.Engine })
		r.Suites = append(r.Suites, s)
	}
	slices.SortFunc(r.Suites, func(a, b Suite) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Engine, b.Engine)) })
}

// Of are the suites of a name, one for each engine, in the order of tables.
func (r *Report) Of(name string) (found []Suite) {
	for _, s := range r.Suites {
		if s.Name == name {
			found = append(found, s)
		}
	}
	slices.SortFunc(found, func(a, b Suite) int { return cmp.Compare(Place(a.Engine), Place(b.Engine)) })
	return found
}

// Load a report. A file that is not there is an empty one.
func Load(path string) (Report, error) {
	var r Report
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(data, &r); err != nil {
		return r, fmt.Errorf("%s: %w", path, err)
	}
	return r, nil
}

// Merge puts suites into the report of a file. A suite that is measured for an hour is not lost by a
// program that ends: the file is whole, old or new.
func Merge(path string, suites ...Suite) error {
	r, err := Load(path)
	if err != nil {
		return err
	}
	r.Put(suites...)
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(path+".new", append(data, '\n'), 0o644); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}
