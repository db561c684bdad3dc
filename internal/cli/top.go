package cli

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
)

// top shows traffic again and again.
type top struct {
	out      io.Writer
	ask      func(context.Context) (*sample, error)
	interval time.Duration
	once     bool
	sort     string
	table    topTable
}

func newTop() *cobra.Command {
	var server apiServer
	var from managerMetrics
	t := &top{}
	cmd := &cobra.Command{
		Use:   "top",
		Short: "Show the traffic of Services, as the hosts' daemons see it",
		Long: `Print the connections and bytes of each port of each Service, and how many of the nodes
behind it are up, again and again until Ctrl-C. A dash is what an engine cannot tell.
Into a pipe or a file they are shown once, unless --interval is given.

Hosts are asked by the manager while somebody looks. It shows what they say in its
metrics, and these are read here: by the API server's proxy to the pod that leads, which
takes the right to get pods/proxy and leases in its namespace, or from --metrics.`,
		Example: `  external-lb top
  external-lb top --sort in --hosts
  external-lb top --once --metrics http://127.0.0.1:8080/metrics`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if _, ok := topColumns[t.sort]; !ok {
				return fmt.Errorf("--sort %q: want %s", t.sort, strings.Join(slices.Sorted(maps.Keys(topColumns)), ", "))
			}
			if t.interval < time.Second {
				return fmt.Errorf("--interval %s: a second at least", t.interval)
			}
			ask, err := from.open(&server)
			if err != nil {
				return err
			}
			t.ask, t.out = ask, cmd.OutOrStdout()
			t.once = t.once || !onTerminal(t.out) && !cmd.Flags().Changed("interval")
			return t.run(cmd.Context())
		},
	}
	server.flags(cmd)
	flags := cmd.Flags()
	flags.StringVar(&from.url, "metrics", "", "URL of the manager's metrics (default: by the API server's proxy to the pod that leads)")
	flags.StringVar(&from.namespace, "namespace", defaultNamespace, "namespace of the manager")
	server.completeNamespaces(cmd, "namespace")
	flags.IntVar(&from.port, "port", 8080, "port of the manager's metrics")
	flags.StringVar(&t.sort, "sort", "open", "what comes first has most of it: "+strings.Join(slices.Sorted(maps.Keys(topColumns)), ", "))
	completeFlag(cmd, "sort", cobra.FixedCompletions(slices.Sorted(maps.Keys(topColumns)), cobra.ShellCompDirectiveNoFileComp))
	flags.BoolVar(&t.table.hosts, "hosts", false, "show each host by itself")
	flags.DurationVar(&t.interval, "interval", 3*time.Second, "time between two looks")
	flags.BoolVar(&t.once, "once", false, "show it once, and end")
	return cmd
}

// patience is how long --once waits for hosts to have been asked twice, which rates take.
const patience = 15 * time.Second

func (t *top) run(ctx context.Context) error {
	rates, began := newRates(), time.Now()
	for first := true; ; first = false {
		now, err := t.ask(ctx)
		switch {
		case ctx.Err() != nil:
			return nil // Ctrl-C
		case err != nil && (first || t.once):
			return err
		case err != nil: // another manager may take over
			fmt.Fprintln(t.out, "error:", plain(err.Error()))
		default:
			rates.add(now)
			if !t.once || rates.complete() || time.Since(began) > patience {
				if err := t.show(rates); err != nil || t.once {
					return err
				}
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(t.interval):
		}
	}
}

// show one picture; on a terminal in the place of the last.
func (t *top) show(r *rates) error {
	var page bytes.Buffer
	if onTerminal(t.out) && !t.once {
		page.WriteString(clearScreen)
	}
	if err := t.table.print(&page, r, t.sort); err != nil {
		if t.once || !errors.Is(err, errNoTraffic) {
			return err
		}
		fmt.Fprintln(&page, err) // it may come
	}
	if !t.once {
		page.WriteString("\n")
	}
	_, err := t.out.Write(page.Bytes())
	return err
}

// rates are what changed from one look of a host at its daemons to the next.
type rates struct {
	hosts map[hostName]time.Time // of the last look
	last  map[rowName]row
	now   map[rowName]row
	known map[hostName]bool // that were looked at twice
}

func newRates() *rates {
	return &rates{hosts: map[hostName]time.Time{}, last: map[rowName]row{}, now: map[rowName]row{}, known: map[hostName]bool{}}
}

// add a sample. A host that has not looked anew since the last one says nothing new.
func (r *rates) add(s *sample) {
	rows := map[rowName]row{}
	for name, is := range s.rows {
		was, there := r.last[name]
		passed := s.at[name.hostName].Sub(r.hosts[name.hostName])
		switch {
		case there && passed == 0:
			is = r.now[name]
		case there:
			is.rate(was, passed)
		}
		rows[name] = is
	}
	for host, at := range s.at {
		if before, there := r.hosts[host]; there && !at.Equal(before) {
			r.known[host] = true
		}
		r.hosts[host] = at
	}
	maps.DeleteFunc(r.hosts, func(h hostName, _ time.Time) bool { _, there := s.at[h]; return !there })
	r.last, r.now = s.rows, rows
}

// complete reports whether there are rates of all hosts.
func (r *rates) complete() bool {
	for host := range r.hosts {
		if !r.known[host] {
			return false
		}
	}
	return len(r.hosts) > 0
}

// topColumns are what rows are sorted by.
var topColumns = map[string]func(row) float64{
	"open":    func(r row) float64 { return r.open },
	"new":     func(r row) float64 { return r.rates[made] },
	"refused": func(r row) float64 { return r.rates[refused] },
	"failed":  func(r row) float64 { return r.rates[failed] },
	"in":      func(r row) float64 { return r.rates[in] },
	"out":     func(r row) float64 { return r.rates[out] },
	"down":    func(r row) float64 { return r.down },
}

// topTable is how rows are shown.
type topTable struct{ hosts bool }

var errNoTraffic = errors.New("no host tells of any traffic: is there a Service with an address, and does the manager work?")

func (t topTable) print(w io.Writer, r *rates, by string) error {
	rows := map[rowName]row{}
	for name, one := range r.now {
		if !t.hosts {
			name.host = ""
		}
		if before, there := rows[name]; there {
			one.add(before)
		}
		rows[name] = one
	}
	if len(rows) == 0 {
		return errNoTraffic
	}
	names := slices.SortedFunc(maps.Keys(rows), func(a, b rowName) int {
		return cmp.Or(cmp.Compare(topColumns[by](rows[b]), topColumns[by](rows[a])), a.compare(b))
	})
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	host := func(text string) string {
		if !t.hosts {
			return ""
		}
		return text + "\t"
	}
	fmt.Fprintf(table, "SERVICE\tPORT\t%sOPEN\tNEW/S\tREFUSED/S\tFAILED/S\tIN/S\tOUT/S\tNODES UP\n", host("HOST"))
	for _, name := range names {
		one := rows[name]
		fmt.Fprintf(table, "%s/%s\t%s\t%s%s\t%s\t%s\t%s\t%s\t%s\t%s\n",
			plain(name.namespace), plain(name.service), plain(name.port), host(plain(name.host)),
			number(one.open), number(one.rates[made]), number(one.rates[refused]), number(one.rates[failed]),
			size(one.rates[in]), size(one.rates[out]), one.nodes())
	}
	return table.Flush()
}
