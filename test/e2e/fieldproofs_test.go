package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"k8s.io/utils/ptr"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/lb"
)

// fieldProofs are the proofs of all fields. canary is a port that answers on
// node1 and node3 alone.
func fieldProofs(canary int32) map[lb.Field]fieldProof {
	type settings = v1alpha1.UpstreamSettings
	check := func(h v1alpha1.HealthCheck) settings { return settings{HealthCheck: &h} }
	send := func(v v1alpha1.ProxyProtocolVersion) settings {
		return settings{ProxyProtocol: &v1alpha1.ProxyProtocol{Send: v}}
	}
	asks := func(path string, port int32, h v1alpha1.HealthCheck) settings {
		h.Type, h.HTTP = v1alpha1.HealthCheckHTTP, &v1alpha1.HTTPHealthCheck{Path: path}
		if port > 0 {
			h.HTTP.Port = &port
		}
		return check(h)
	}
	quick := v1alpha1.HealthCheck{Interval: "200ms", Timeout: "1s", Rise: ptr.To[int32](1), Fall: ptr.To[int32](1)}
	with := func(kind v1alpha1.HealthCheckType) v1alpha1.HealthCheck { h := quick; h.Type = kind; return h }
	patient := quick
	patient.Timeout = "5s"
	unchecked := func(retries int32) settings {
		return settings{HealthCheck: &v1alpha1.HealthCheck{Type: v1alpha1.HealthCheckNone}, Retries: &retries}
	}
	limited := settings{HealthCheck: &v1alpha1.HealthCheck{Interval: "100ms", Timeout: "1s", Rise: ptr.To[int32](1), Fall: ptr.To[int32](manyChecks)}}
	every := settings{HealthCheck: &v1alpha1.HealthCheck{Interval: "100ms"}}
	if engine.name == v1alpha1.EngineNginx { // which counts connections instead
		limited = settings{HealthCheck: &v1alpha1.HealthCheck{Interval: "1m", Fall: ptr.To[int32](3)}, Retries: ptr.To[int32](0)}
		every.HealthCheck.Interval = "8s"
	}
	slow := unchecked(2)
	slow.Timeouts = &v1alpha1.Timeouts{Connect: "2s"}
	return map[lb.Field]fieldProof{
		"algorithm=RoundRobin":            {settings: settings{Algorithm: v1alpha1.RoundRobin}, shows: spreadsEvenly},
		"algorithm=LeastConnections":      {settings: settings{Algorithm: v1alpha1.LeastConnections}, shows: prefersTheIdleNode},
		"algorithm=ShortestExpectedDelay": {settings: settings{Algorithm: v1alpha1.ShortestExpectedDelay}, shows: prefersTheIdleNode},
		"algorithm=NeverQueue":            {settings: settings{Algorithm: v1alpha1.NeverQueue}, shows: prefersTheIdleNode},
		"algorithm=SourceHash":            {settings: settings{Algorithm: v1alpha1.SourceHash}, shows: keepsToOneNode("client")},
		"algorithm=DestinationHash":       {settings: settings{Algorithm: v1alpha1.DestinationHash}, shows: keepsToOneNode("client", "client2")},
		"algorithm=Random":                {settings: settings{Algorithm: v1alpha1.Random}, shows: spreadsWithoutOrder},
		"mode=TCP":                        {settings: settings{Mode: v1alpha1.ModeTCP}, http: true, shows: leavesRequestsAlone},
		"mode=HTTP":                       {settings: settings{Mode: v1alpha1.ModeHTTP}, http: true, shows: understandsRequests},
		"proxyProtocol.send=None":         {settings: send(v1alpha1.ProxyProtocolNone), shows: sendsHeader("")},
		"proxyProtocol.send=V1":           {settings: send(v1alpha1.ProxyProtocolV1), shows: sendsHeader("v1 TCP4")},
		"proxyProtocol.send=V2":           {settings: send(v1alpha1.ProxyProtocolV2), shows: sendsHeader("v2 TCP4")},
		"proxyProtocol.accept": {shows: acceptsHeader,
			settings: settings{ProxyProtocol: &v1alpha1.ProxyProtocol{Accept: ptr.To(true), Send: v1alpha1.ProxyProtocolV1}}},
		"timeouts.connect":        {settings: slow, shows: waitsForABlackHole},
		"timeouts.idle":           {settings: settings{Timeouts: &v1alpha1.Timeouts{Idle: "1s"}}, shows: closesIdleConnections},
		"healthCheck.type=Auto":   {settings: check(with(v1alpha1.HealthCheckAuto)), shows: leavesOutANode((*field).checkedPort)},
		"healthCheck.type=TCP":    {settings: check(with(v1alpha1.HealthCheckTCP)), shows: leavesOutANode((*field).nodePort)},
		"healthCheck.type=HTTP":   {settings: asks("/except/node2", 0, quick), http: true, shows: usesTwoNodes},
		"healthCheck.type=None":   {settings: unchecked(0), shows: goesOnWithANodeThatFails},
		"healthCheck.http":        {settings: asks("/healthz", canary, quick), http: true, shows: usesTwoNodes},
		"healthCheck.interval":    {settings: every, shows: checksAsOftenAsTold},
		"healthCheck.timeout":     {settings: asks("/slow/2500", 0, patient), otherwise: ptr.To(asks("/slow/2500", 0, quick)), http: true, shows: waitsForAnAnswer},
		"healthCheck.rise":        {settings: check(v1alpha1.HealthCheck{Interval: "100ms", Fall: ptr.To[int32](1), Rise: ptr.To[int32](manyChecks)}), shows: comesBackLate},
		"healthCheck.fall":        {settings: limited, shows: goesLate},
		"maxConnections":          {settings: settings{MaxConnections: ptr.To[int32](2)}, shows: limitsAll},
		"maxConnectionsPerNode":   {settings: settings{MaxConnectionsPerNode: ptr.To[int32](1)}, shows: limitsEachNode},
		"maxConnectionsPerClient": {settings: settings{MaxConnectionsPerClient: ptr.To[int32](2)}, shows: limitsEachClient},
		"retries":                 {settings: unchecked(1), otherwise: ptr.To(unchecked(0)), shows: triesAnotherNode},
		"drain":                   {settings: settings{Drain: "30s"}},
	}
}

// manyChecks take longer than what is built in, however slow the machine.
const manyChecks = 30

func (f *field) nodePort() int32 { return f.service.Spec.Ports[0].NodePort }

// checkedPort is where the engine sees by itself how a node is.
func (f *field) checkedPort() int32 {
	if engine.name == v1alpha1.EngineNginx {
		return f.nodePort()
	}
	return f.service.Spec.HealthCheckNodePort
}

const reset = "reject with tcp reset"

func spreadsEvenly(f *field) {
	count := map[string]int{}
	for _, node := range f.spread(f.address, 12) {
		count[node]++
	}
	for _, node := range env.Nodes() {
		if count[node] != 4 {
			f.t.Errorf("12 connections were spread as %v", count)
		}
	}
}

// Two connections in a row to one node are what those that take turns never do.
func prefersTheIdleNode(f *field) {
	const idle = "node1"
	byNode := map[string][]*held{}
	for range 6 {
		h := f.holds("client")
		byNode[h.Node] = append(byNode[h.Node], h)
	}
	for _, node := range env.Nodes() {
		if len(byNode[node]) != 2 {
			f.t.Errorf("%s has %d of 6 connections", node, len(byNode[node]))
		}
	}
	for _, h := range byNode[idle] {
		h.Close()
	}
	eventually(f.t, func(ctx context.Context) error {
		for range 2 {
			h, err := f.open(ctx, "client", f.address, "")
			if err != nil {
				return err
			}
			defer h.Close()
			if h.Node != idle {
				return fmt.Errorf("answered by %s, want %s, which has fewer connections", h.Node, idle)
			}
		}
		return nil
	})
}

func keepsToOneNode(clients ...string) func(*field) {
	return func(f *field) {
		var nodes []string
		for _, from := range clients {
			for range 9 {
				h := f.holds(from)
				nodes = append(nodes, h.Node)
			}
		}
		if slices.Sort(nodes); len(slices.Compact(slices.Clone(nodes))) != 1 {
			f.t.Errorf("%v were answered by %v, want one node", clients, nodes)
		}
	}
}

func spreadsWithoutOrder(f *field) {
	nodes := f.spread(f.address, 60)
	inARow := false
	for i := range nodes[1:] {
		inARow = inARow || nodes[i] == nodes[i+1]
	}
	distinct := slices.Compact(slices.Sorted(slices.Values(nodes)))
	if !inARow || !slices.Equal(distinct, env.Nodes()) {
		f.t.Errorf("answered by %v, want every node, and no turns", nodes)
	}
}

func leavesRequestsAlone(f *field) {
	answer, err := f.web(f.t.Context(), f.host, 80)
	must(f.t, err)
	for _, name := range []string{"X-Forwarded-For", "X-Forwarded-Proto"} {
		if got := answer.Header[name]; len(got) > 0 {
			f.t.Errorf("the pod got %s %q", name, got)
		}
	}
}

func understandsRequests(f *field) {
	asker, nodes := env.Addrs("client")[0].String(), []string{}
	httpClient := env.HTTPClientFrom("client")
	defer httpClient.CloseIdleConnections()
	for range 6 {
		answer, err := f.request(f.t.Context(), httpClient, f.host, 80)
		must(f.t, err)
		if got := answer.Header["X-Forwarded-For"]; !slices.Equal(got, []string{asker}) {
			f.t.Errorf("the pod sees X-Forwarded-For %q, want %s", got, asker)
		}
		if got := answer.Header["X-Forwarded-Proto"]; !slices.Equal(got, []string{"http"}) {
			f.t.Errorf("the pod sees X-Forwarded-Proto %q", got)
		}
		nodes = append(nodes, answer.Node)
	}
	if distinct := slices.Compact(slices.Sorted(slices.Values(nodes))); !slices.Equal(distinct, env.Nodes()) {
		f.t.Errorf("requests on one connection were answered by %v, want every node", nodes)
	}
}

// sendsHeader says how the header that pods get begins; the rest is who asked whom.
func sendsHeader(kind string) func(*field) {
	return func(f *field) {
		h := f.holds("client")
		want := ""
		if kind != "" {
			_, port, _ := strings.Cut(h.LocalAddr().String(), ":")
			want = strings.Join([]string{kind, env.Addrs("client")[0].String(), f.host, port, "80"}, " ")
		}
		if h.Proxy != want {
			f.t.Errorf("the pod got the header %q, want %q", h.Proxy, want)
		}
	}
}

func acceptsHeader(f *field) {
	h, err := f.open(f.t.Context(), "client", f.address, "PROXY TCP4 192.0.2.9 192.0.2.10 1234 80\r\n")
	must(f.t, err)
	// What was asked for may be the Service's address by now: nginx takes only the client over.
	if got := strings.Fields(h.Proxy); len(got) != 6 || got[2] != "192.0.2.9" || got[4] != "1234" {
		f.t.Errorf("the pod got the header %q, want the client of the one that was sent", h.Proxy)
	}
	if node, err := f.reach(f.t.Context(), f.address); err == nil {
		f.t.Errorf("a connection without a header reached %s", node)
	}
}

// A node that does not answer costs the time that is set, and no client anything else.
func waitsForABlackHole(f *field) {
	f.bar("node2", f.nodePort(), "drop")
	longest := time.Duration(0)
	for range 3 {
		start := time.Now()
		node, err := f.reach(f.t.Context(), f.address)
		longest = max(longest, time.Since(start))
		if err != nil || node == "node2" {
			f.t.Errorf("answered by %q: %v", node, err)
		}
	}
	if longest < 1900*time.Millisecond {
		f.t.Errorf("no connection waited longer than %v for a node that does not answer, want 2s", longest)
	}
}

func closesIdleConnections(f *field) {
	h := f.holds("client")
	start := time.Now()
	must(f.t, h.SetReadDeadline(start.Add(patience)))
	if n, err := h.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		f.t.Errorf("%d bytes, %v, want the connection closed", n, err)
	}
	if waited := time.Since(start); waited < 900*time.Millisecond {
		f.t.Errorf("closed after %v, want 1s", waited)
	}
}

func leavesOutANode(port func(*field) int32) func(*field) {
	return func(f *field) {
		f.on(env.Nodes()...)
		failing := f.bar("node2", port(f), reset)
		f.on("node1", "node3")
		failing.lift()
		f.on(env.Nodes()...)
	}
}

func usesTwoNodes(f *field) {
	eventually(f.t, func(context.Context) error {
		if got := f.nodesOf(f.host, 80, 9); !slices.Equal(got, []string{"node1", "node3"}) {
			return fmt.Errorf("answered by %v, want all but node2, whose check fails", got)
		}
		return nil
	})
}

func goesOnWithANodeThatFails(f *field) {
	f.bar("node2", f.nodePort(), reset)
	if got := f.spread(f.address, 15); failures(got) != 5 {
		f.t.Errorf("answered by %q, want every third connection to fail", got)
	}
}

func failures(nodes []string) (count int) {
	for _, node := range nodes {
		if node == "" {
			count++
		}
	}
	return count
}

func checksAsOftenAsTold(f *field) {
	if engine.name == v1alpha1.EngineNginx {
		failing := f.bar("node2", f.nodePort(), reset)
		eventually(f.t, func(ctx context.Context) error {
			if _, err := f.reach(ctx, f.address); err != nil {
				return err
			}
			if failing.tried() == 0 {
				return errors.New("node2 was not tried")
			}
			return nil
		})
		f.comesBack(failing, 6*time.Second)
		return
	}
	const checks, within = 20, 20 * time.Second // 40 s with what is built in
	asked := f.bar("node2", f.checkedPort(), "accept")
	start := time.Now()
	eventually(f.t, func(context.Context) error {
		if n := asked.tried(); n < checks {
			return fmt.Errorf("node2 was checked %d times", n)
		}
		return nil
	})
	if took := time.Since(start); took > within {
		f.t.Errorf("%d checks took %v, want one each 100ms", checks, took)
	}
}

// comesBack lifts a barrier before node2, and wants it back no sooner than after a while.
func (f *field) comesBack(failing barrier, atLeast time.Duration) {
	f.t.Helper()
	failing.lift()
	start := time.Now()
	eventually(f.t, func(ctx context.Context) error {
		node, err := f.reach(ctx, f.address)
		if err == nil && node != "node2" {
			err = fmt.Errorf("answered by %s, want node2, which is well again", node)
		}
		return err
	})
	if away := time.Since(start); away < atLeast {
		f.t.Errorf("node2 was back after %v", away)
	}
}

func comesBackLate(f *field) {
	failing := f.bar("node2", f.checkedPort(), reset)
	f.on("node1", "node3")
	f.comesBack(failing, 2500*time.Millisecond)
}

func goesLate(f *field) {
	if engine.name == v1alpha1.EngineNginx {
		f.bar("node2", f.nodePort(), reset)
		if got := f.spread(f.address, 30); failures(got) != 3 {
			f.t.Errorf("answered by %q, want node2 left out after 3 connections that fail", got)
		}
		return
	}
	start := time.Now()
	f.bar("node2", f.checkedPort(), reset)
	f.on("node1", "node3")
	if took := time.Since(start); took < 2500*time.Millisecond {
		f.t.Errorf("left out after %v, want after %d checks, one each 100ms", took, manyChecks)
	}
}

// Where an answer comes too late for the other Service, all of its nodes fail.
func waitsForAnAnswer(f *field) {
	f.silent(addresses(f.otherwise)[0], 80)
	if got := f.nodesOf(f.host, 80, 6); !slices.Equal(got, env.Nodes()) {
		f.t.Errorf("answered by %v, want every node", got)
	}
}

// refuses wants a connection closed, or not answered.
func (f *field) refuses(from string) {
	f.t.Helper()
	if h, err := f.open(f.t.Context(), from, f.address, ""); err == nil {
		f.t.Errorf("a connection above the limit reached %s", h.Node)
	}
}

func limitsAll(f *field) {
	one := f.holds("client")
	f.holds("client2")
	f.refuses("client")
	f.refuses("client2")
	one.Close()
	f.carried()
}

func limitsEachNode(f *field) {
	nodes := []string{f.holds("client").Node, f.holds("client").Node, f.holds("client").Node}
	if slices.Sort(nodes); !slices.Equal(nodes, env.Nodes()) {
		f.t.Errorf("answered by %v, want each node once", nodes)
	}
	f.refuses("client")
}

func limitsEachClient(f *field) {
	one := f.holds("client")
	f.holds("client")
	f.refuses("client")
	f.holds("client2")
	one.Close()
	f.carried()
}

func triesAnotherNode(f *field) {
	f.bar("node2", f.nodePort(), reset)
	if got := f.spread(f.address, 9); failures(got) > 0 || slices.Contains(got, "node2") {
		f.t.Errorf("with a retry: answered by %q", got)
	}
	f.bar("node2", f.otherwise.Spec.Ports[0].NodePort, reset)
	if got := f.spread(addresses(f.otherwise)[0]+":80", 9); failures(got) != 3 {
		f.t.Errorf("without retries: answered by %q, want every third connection to fail", got)
	}
}
