// Command gen writes the pages of docs/reference that come from code: what the
// engines can do, what the commands say of themselves, the table of conformance, and
// what was measured, with its pictures.
package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/external-lb/external-lb/internal/cli"
	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/engine/engines"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/internal/provider/alibaba"
	"github.com/external-lb/external-lb/internal/provider/openstack"
	"github.com/external-lb/external-lb/provider"
	"github.com/external-lb/external-lb/test/bench/report"
	"github.com/external-lb/external-lb/test/conformance"
)

func main() {
	if err := write("docs"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func write(dir string) error {
	measured, err := report.Load(filepath.Join(dir, "reference", "performance.json"))
	if err != nil {
		return err
	}
	pages := map[string]string{"capabilities.md": capabilities(), "commands.md": commands(), "conformance.md": conformance.Page(),
		"performance.md": performance(measured), "limits.md": limits()}
	for name, page := range pages {
		if err := os.WriteFile(filepath.Join(dir, "reference", name), []byte(page), 0o644); err != nil {
			return err
		}
	}
	return draw(filepath.Join(dir, "images"), drawings(measured))
}

// draw the pictures, and remove those of which there are no figures any more.
func draw(dir string, pictures []picture) error {
	old, err := filepath.Glob(filepath.Join(dir, "performance-*.svg"))
	if err != nil {
		return err
	}
	for _, path := range old {
		if err := os.Remove(path); err != nil {
			return err
		}
	}
	for _, p := range pictures {
		if err := os.WriteFile(filepath.Join(dir, p.file), p.svg(), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// capabilities is the table of what every engine states.
func capabilities() string {
	var b strings.Builder
	b.WriteString("# What the engines can do\n\nThe settings of an UpstreamPolicy, and what becomes of them. What an engine cannot do is never silently\n" +
		"replaced: the policy's status says so in its condition `Unsupported`, by field. The end-to-end test `TestPolicy_EveryField` holds\n" +
		"every line: on each engine it shows the effect on traffic, or the condition. Where a Service has `sessionAffinity: ClientIP`, that\n" +
		"decides the node, and every `algorithm` but `SourceHash` is reported as unsupported. With [`datagrams: LVS`](../howto/datagrams.md)\n" +
		"the column `lvs` is for the UDP and SCTP ports of Balancers with another engine, too.\n\n| setting |")
	for _, e := range engines.Table.Engines {
		fmt.Fprintf(&b, " %s |", e)
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", len(engines.Table.Engines)) + "\n")
	for _, f := range engine.Fields {
		fmt.Fprintf(&b, "| `%s` |", f)
		for _, e := range engines.Table.Engines {
			fmt.Fprintf(&b, " %s |", support(e.Fields[f]))
		}
		b.WriteString("\n")
	}
	b.WriteString("\nWhat the owner of a host can bound, in [`host.yaml`](../howto.md#say-what-a-host-may-carry):\n\n|")
	for _, e := range engines.Table.Engines {
		fmt.Fprintf(&b, " | %s", e)
	}
	b.WriteString(" |\n|---|" + strings.Repeat("---|", len(engines.Table.Engines)) + "\n| `connectionsPerService` |")
	for _, e := range engines.Table.Engines {
		fmt.Fprintf(&b, " %s |", support(engine.Support{Missing: e.NoShares}))
	}
	b.WriteString("\n\nWhat a Balancer says of nodes:\n\n|")
	for _, e := range engines.Table.Engines {
		fmt.Fprintf(&b, " | %s", e)
	}
	b.WriteString(" |\n|---|" + strings.Repeat("---|", len(engines.Table.Engines)) + "\n| `spec.nodes.backup` |")
	for _, e := range engines.Table.Engines {
		fmt.Fprintf(&b, " %s |", support(e.Backups))
	}
	b.WriteString("\n\n| protocol |")
	for _, e := range engines.Table.Engines {
		fmt.Fprintf(&b, " %s |", e)
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", len(engines.Table.Engines)) + "\n")
	for _, p := range []lb.Protocol{lb.TCP, lb.UDP, lb.SCTP} {
		fmt.Fprintf(&b, "| %s |", p)
		for _, e := range engines.Table.Engines {
			if e.Carries(p) {
				b.WriteString(" yes |")
			} else {
				b.WriteString(" no: the port gets an error in the Service's status |")
			}
		}
		b.WriteString("\n")
	}
	b.WriteString(providers())
	return b.String()
}

// providers is the table of what the providers that come with us state of their clouds.
func providers() string {
	var b strings.Builder
	all := []struct {
		name, page string
		cloud      provider.Cloud
	}{
		{"openstack", "octavia.md", &openstack.Cloud{}},
		{"alibaba, NLB", "alibaba.md", &alibaba.Cloud{Options: alibaba.Options{Type: alibaba.NLB}}},
		{"alibaba, CLB", "alibaba.md", &alibaba.Cloud{Options: alibaba.Options{Type: alibaba.CLB}}},
	}
	b.WriteString("\n## Providers\n\nWhat those that come with us state of their clouds. Others say it in `status.provider` of a Balancer.\n\n| setting |")
	can := make([]provider.Capabilities, len(all))
	for i, p := range all {
		var err error
		if can[i], err = p.cloud.Capabilities(context.Background()); err != nil {
			panic(err) // it asks nobody
		}
		fmt.Fprintf(&b, " [%s](../howto/%s) |", p.name, p.page)
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", len(all)) + "\n")
	for _, s := range provider.AllSettings() {
		fmt.Fprintf(&b, "| `%s` |", s)
		for _, c := range can {
			of := c.Settings[s]
			fmt.Fprintf(&b, " %s |", support(engine.Support{Missing: of.Missing, UDP: of.UDP, Affinity: of.Affinity, Note: of.Note}))
		}
		b.WriteString("\n")
	}
	for _, p := range []provider.Protocol{provider.TCP, provider.UDP, provider.SCTP} {
		fmt.Fprintf(&b, "| %s |", p)
		for _, c := range can {
			carried := "no"
			if slices.Contains(c.Protocols, p) {
				carried = "yes"
			}
			fmt.Fprintf(&b, " %s |", carried)
		}
		b.WriteString("\n")
	}
	return b.String()
}

func support(s engine.Support) string {
	var out []string
	switch {
	case s.Missing != "":
		return "no: " + s.Missing
	case s.TCP != "":
		out = append(out, "with `mode=HTTP`; else not: "+s.TCP)
	case s.UDP != "":
		out = append(out, "with TCP; with UDP not: "+s.UDP)
	default:
		out = append(out, "yes")
	}
	if s.HTTP != "" {
		out = append(out, "with `mode=HTTP` not: "+s.HTTP)
	}
	if s.Note != "" {
		out = append(out, s.Note)
	}
	return strings.Join(out, ". ")
}

// commands is the help of every command.
func commands() string {
	var b strings.Builder
	b.WriteString("# The commands\n")
	for _, path := range cli.Commands() {
		var out bytes.Buffer
		args := append([]string{"external-lb"}, strings.Fields(path)...)
		cli.Main(context.Background(), append(args, "--help"), strings.NewReader(""), &out, &out)
		fmt.Fprintf(&b, "\n## %s\n\n```text\n%s\n```\n", strings.Join(args, " "), strings.TrimSpace(out.String()))
	}
	return b.String()
}
