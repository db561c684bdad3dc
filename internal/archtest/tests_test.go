package archtest

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// A test is called after what holds, and before that after a row or a subject where it
// has one: TestS30_RequestedAddresses, TestUntil_KeepsTheErrorThatSaysMore. It waits with
// test/wait, and makes its objects with test/builder.
func TestTestsAreAlike(t *testing.T) {
	name := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Benchmark)\w*)\(`)
	good := regexp.MustCompile(`^(Test|Fuzz|Benchmark)[A-Z][A-Za-z0-9]*(_[A-Z][A-Za-z0-9]*)*$`)
	waits := regexp.MustCompile(`(?m)^func (?:\([^)]*\) )?(eventually|waitFor|await)\w*\(`)
	// One that is not empty, and not a list; or a builder that embeds one.
	const kind = `(corev1\.(?:Service|Node)|discoveryv1\.EndpointSlice|v1alpha1\.(?:UpstreamPolicy|AddressPool|Balancer))`
	makes := regexp.MustCompile(`[^]*]` + kind + `(?:\{[^}]| })|` + kind + `\{\{`)
	const root = "../.."
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, m := range name.FindAllStringSubmatch(string(text), -1) {
			if !good.MatchString(m[1]) {
				t.Errorf("%s: %s: call it TestWhatHolds or TestSubject_WhatHolds", path, m[1])
			}
		}
		for _, m := range waits.FindAllStringSubmatch(string(text), -1) {
			t.Errorf("%s: %s: use test/wait", path, m[1])
		}
		for _, m := range makes.FindAllStringSubmatch(string(text), -1) {
			t.Errorf("%s: %s: make it with test/builder", path, m[1]+m[2])
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
