package cli

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The reference has every command, in the order of the program's own tree.
func TestCommandsAreInTheReference(t *testing.T) {
	page, err := os.ReadFile("../../docs/reference/commands.md")
	if err != nil {
		t.Fatal(err)
	}
	var has []string
	for _, m := range regexp.MustCompile(`(?m)^## external-lb(.*)$`).FindAllStringSubmatch(string(page), -1) {
		has = append(has, strings.TrimSpace(m[1]))
	}
	if diff := cmp.Diff(Commands(), has); diff != "" {
		t.Errorf("make docs: %s", diff)
	}
}

// What a person looks at comes first in the help, and each command has its place.
func TestCommandsHaveAGroup(t *testing.T) {
	for _, c := range newRoot("external-lb").Commands() {
		if c.GroupID == "" && c.Name() != "version" {
			t.Errorf("%s has no group", c.Name())
		}
	}
	if at := Commands(); at[0] != "" || at[1] != "check" || at[len(at)-1] != "version" {
		t.Errorf("%q", at)
	}
}
