package conformance

import (
	"fmt"
	"strings"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/engine/engines"
)

// withDatagrams is HAProxy beside which the kernel carries datagrams: the suite runs the rows
// about these on it.
const withDatagrams = v1alpha1.EngineHAProxy + beside

// cell says what becomes of a row, and why.
func cell(row *Row, e v1alpha1.Engine) (what, why string) {
	except, but := row.Excepts(e), row.Lacks(e)
	switch {
	case e == withDatagrams && !row.datagrams() && except == row.Except[v1alpha1.EngineHAProxy]:
		return "as haproxy", ""
	case except != "":
		return string(NotApplicable), except
	case but != "":
		return string(Passed), "without " + but
	}
	return string(Passed), ""
}

// Page is docs/reference/conformance.md. It says "passed" because the end-to-end
// suite fails where that is not so. On Octavia the rows are run each week.
func Page() string {
	var b strings.Builder
	b.WriteString("# Conformance, row by row\n\n" +
		"What Kubernetes expects of a LoadBalancer provider is in [semantics.md](semantics.md). Each row is one or more end-to-end tests on\n" +
		"real traffic, which bear its number. The suite fails unless every row is as in this table, on every engine; to see it:\n\n" +
		"```sh\nmake conformance ENGINE=nginx\n```\n\n" +
		"`haproxy+lvs` is HAProxy with [datagrams in the kernel](../howto/datagrams.md). `octavia` is a Balancer with `engine: provider` in\n" +
		"front of [OpenStack's load balancers](../howto/octavia.md): a real Octavia, which takes its time, so `make conformance ENGINE=octavia`\n" +
		"is no part of the suite, and runs each week.\n\n| row | what |")
	var columns []v1alpha1.Engine
	for _, e := range append(engines.Table.Names(), string(withDatagrams), string(Octavia)) {
		columns = append(columns, v1alpha1.Engine(e))
		fmt.Fprintf(&b, " %s |", e)
	}
	b.WriteString("\n|---|---|" + strings.Repeat("---|", len(columns)) + "\n")
	var notes []string
	for i := range Rows {
		row := &Rows[i]
		fmt.Fprintf(&b, "| %s | %s |", row.Number, row.Title)
		for _, e := range columns {
			what, why := cell(row, e)
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
