package conformance

import (
	"fmt"
	"strings"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/engine/engines"
)

// Page is docs/reference/conformance.md. It says "passed" because the end-to-end
// suite fails where that is not so.
func Page() string {
	var b strings.Builder
	b.WriteString("# Conformance, row by row\n\n" +
		"What Kubernetes expects of a LoadBalancer provider is in [semantics.md](semantics.md). Each row is one or more end-to-end tests on\n" +
		"real traffic, which bear its number. The suite fails unless every row is as in this table, on every engine; to see it:\n\n" +
		"```sh\nmake conformance ENGINE=nginx\n```\n\n| row | what |")
	for _, e := range engines.Table.Engines {
		fmt.Fprintf(&b, " %s |", e)
	}
	b.WriteString("\n|---|---|" + strings.Repeat("---|", len(engines.Table.Engines)) + "\n")
	var notes []string
	for _, row := range Rows {
		fmt.Fprintf(&b, "| %s | %s |", row.Number, row.Title)
		for _, e := range engines.Table.Engines {
			what, why := Passed, row.But[v1alpha1.Engine(e.Name)]
			if row.Except[v1alpha1.Engine(e.Name)] != "" {
				what, why = NotApplicable, row.Except[v1alpha1.Engine(e.Name)]
			} else if why != "" {
				why = "without " + why
			}
			fmt.Fprintf(&b, " %s", what)
			if why != "" {
				fmt.Fprintf(&b, " (%d)", note(&notes, why))
			}
			b.WriteString(" |")
		}
		b.WriteString("\n")
	}
	b.WriteString("\n")
	for i, n := range notes {
		fmt.Fprintf(&b, "%d. %s\n", i+1, n)
	}
	return b.String()
}

// note finds the number of a note, and adds it where it is new.
func note(notes *[]string, text string) int {
	for i, n := range *notes {
		if n == text {
			return i + 1
		}
	}
	*notes = append(*notes, text)
	return len(*notes)
}
