package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/external-lb/external-lb/api/v1alpha1"
	contract "github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/test/wait"
)

// fieldProofs are the proofs of all fields, with what a policy says.
func fieldProofs() map[contract.Field]fieldProof {
	const quick = "interval: 500ms, timeout: 2s, rise: 1, fall: 1"
	// Together they take longer than what is built in, however slow the machine.
	every, many := "100ms", 30
	if engine.name == v1alpha1.EngineLVS { // asks every node for every Service
		every, many = "500ms", 6
	}
	all := map[contract.Field]fieldProof{
		"algorithm=RoundRobin":            {settings: "algorithm: RoundRobin", shows: spreadsEvenly},
		"algorithm=LeastConnections":      {settings: "algorithm: LeastConnections", shows: prefersTheIdleNode},
		"algorithm=ShortestExpectedDelay": {settings: "algorithm: ShortestExpectedDelay", shows: prefersTheIdleNode},
		"algorithm=NeverQueue":            {settings: "algorithm: NeverQueue", shows: prefersTheIdleNode},
		"algorithm=SourceHash":            {settings: "algorithm: SourceHash", shows: keepsToOneNode("client")},
		"algorithm=DestinationHash":       {settings: "algorithm: DestinationHash", shows: keepsToOneNode("client", "client2")},
		"algorithm=Random":                {settings: "algorithm: Random", shows: spreadsWithoutOrder},
		"mode=TCP":                        {settings: "mode: TCP", http: true, shows: leavesRequestsAlone},
		"mode=HTTP":                       {settings: "mode: HTTP", http: true, shows: understandsRequests},
		"http.redirectToHTTPS":            {settings: "{mode: HTTP, http: {redirectToHTTPS: true}}", http: true, shows: redirectsToHTTPS},
		"http.maxBodyBytes":               {settings: "{mode: HTTP, http: {maxBodyBytes: 10}}", http: true, shows: refusesLongBodies},
		"http.maxHeaderBytes":             {settings: "{mode: HTTP, http: {maxHeaderBytes: 2048}}", otherwise: "{mode: HTTP}", http: true, shows: refusesLongHeaders},
		"proxyProtocol.send=None":         {settings: "proxyProtocol: {send: None}", shows: sendsHeader("")},
		"proxyProtocol.send=V1":           {settings: "proxyProtocol: {send: V1}", shows: sendsHeader("v1 TCP4")},
		"proxyProtocol.send=V2":           {settings: "proxyProtocol: {send: V2}", shows: sendsHeader("v2 TCP4")},
		"proxyProtocol.accept":            {settings: "proxyProtocol: {send: V1, accept: true}", shows: acceptsHeader},
		"timeouts.connect":                {settings: "{timeouts: {connect: 2s}, healthCheck: {type: None}}", shows: waitsForABlackHole},
		"timeouts.idle":                   {settings: "timeouts: {idle: 3s}", shows: closesIdleConnections},
		"timeouts.client":                 {settings: "{mode: HTTP, timeouts: {client: 3s}}", http: true, shows: closesIdleClients},
		"timeouts.server":                 {settings: "{mode: HTTP, timeouts: {server: 3s}, healthCheck: {type: None}}", http: true, shows: waitsForNoLateAnswer},
		"timeouts.queue":                  {settings: "{maxConnectionsPerNode: 1, timeouts: {queue: 4s}}", shows: waitsForRoom},
		"timeouts.keepAlive":              {settings: "timeouts: {keepAlive: 1s}", shows: asksASilentClient},
		"maxQueue":                        {settings: "{maxConnectionsPerNode: 1, maxQueue: 1, timeouts: {queue: 8s}}", shows: letsFewWait},
		"abortOnClose":                    {settings: "{mode: HTTP, maxConnectionsPerNode: 1, abortOnClose: true}", http: true, shows: givesUpWithTheClient},
		"drain":                           {settings: "drain: 4s", alone: true, shows: endsWhatIsLeft},
		"slowStart":                       {settings: "{slowStart: 5m, healthCheck: {" + quick + "}}", shows: comesBackSlowly},
		"healthCheck.type=Auto":           {settings: "healthCheck: {type: Auto, " + quick + "}", shows: leavesOutANode((*field).checkedPort)},
		"healthCheck.type=TCP":            {settings: "healthCheck: {type: TCP, " + quick + "}", shows: leavesOutANode((*field).nodePort)},
		"healthCheck.type=HTTP":           {settings: "healthCheck: {type: HTTP, http: {path: /except/node2}, " + quick + "}", http: true, shows: usesNodes("node1", "node3")},
		"healthCheck.type=None":           {settings: "{healthCheck: {type: None}, retries: 0}", shows: goesOnWithANodeThatFails},
		"healthCheck.http": {settings: fmt.Sprintf("healthCheck: {http: {path: /healthz, port: %d}, %s}", nodePortOfPolicy, quick), asked: nodePortOfPolicy,
			shows: leavesOutANode(func(*field) int32 { return nodePortOfPolicy })},
		"healthCheck.http.host": {settings: "healthCheck: {http: {path: /host/web.example, host: web.example}, " + quick + "}",
			otherwise: "healthCheck: {http: {path: /host/web.example}, " + quick + "}", http: true, shows: asksForAHost},
		"healthCheck.http.status": {settings: "healthCheck: {http: {path: /except/node2, status: '503'}, " + quick + "}", http: true, shows: usesNodes("node2")},
		"healthCheck.tcp": {settings: "healthCheck: {tcp: {send: \"hi\\n\", expect: '\"node\":\"node2\"'}, " + quick + "}",
			shows: func(f *field) { f.on("node2") }},
		"healthCheck.interval": {settings: "healthCheck: {interval: " + every + "}", shows: checksAsOftenAsTold},
		"healthCheck.timeout": {settings: "healthCheck: {type: HTTP, http: {path: /slow/3500}, interval: 200ms, timeout: 15s, fall: 1}",
			otherwise: "healthCheck: {type: HTTP, http: {path: /slow/3500}, interval: 200ms, timeout: 2s, fall: 1}", http: true, shows: waitsForAnAnswer},
		"healthCheck.rise":        {settings: fmt.Sprintf("healthCheck: {interval: %s, fall: 1, rise: %d}", every, many), shows: comesBackLate},
		"healthCheck.fall":        {settings: fmt.Sprintf("healthCheck: {interval: %s, fall: %d, rise: 1}", every, many), shows: goesLate},
		"maxConnections":          {settings: "maxConnections: 2", shows: limitsAll},
		"maxConnectionsPerNode":   {settings: "maxConnectionsPerNode: 1", shows: limitsEachNode},
		"maxConnectionsPerClient": {settings: "maxConnectionsPerClient: 2", shows: limitsEachClient},
		"maxRatePerClient":        {settings: "{mode: HTTP, maxRatePerClient: 2}", http: true, shows: limitsTheRateOfEachClient},
		"accessLog":               {settings: "{mode: HTTP, accessLog: false}", otherwise: "{mode: HTTP}", http: true, shows: logsNothing},
		"sourceAddresses":         {settings: fmt.Sprintf("sourceAddresses: [\"%s\"]", strings.Join(seconds(), `", "`)), otherwise: "mode: TCP", shows: connectsFrom},
		"retries":                 {settings: "{retries: 1, healthCheck: {type: None}}", otherwise: "{retries: 0, healthCheck: {type: None}}", shows: triesAnotherNode},
	}
	if engine.name == v1alpha1.EngineNginx { // which judges by connections
		all["healthCheck.interval"] = fieldProof{settings: "healthCheck: {interval: 8s}", shows: triesAgainLate}
		all["healthCheck.fall"] = fieldProof{settings: "{healthCheck: {interval: 1m, fall: 3}, retries: 0}", shows: countsConnectionsThatFail}
	}
	return all
}

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
	wait.For(f.t, func(ctx context.Context) error {
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

// answerTo is how a request from a client is answered by the balancer itself.
func (f *field) answerTo(method, path, body string) *http.Response {
	f.t.Helper()
	return f.answerWith(nil, method, path, body)
}

func (f *field) answerWith(header http.Header, method, path, body string) *http.Response {
	f.t.Helper()
	httpClient := env.HTTPClientFrom("client")
	defer httpClient.CloseIdleConnections()
	httpClient.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	request, err := http.NewRequestWithContext(f.t.Context(), method, "http://"+f.host+path, strings.NewReader(body))
	must(f.t, err)
	maps.Copy(request.Header, header)
	response, err := httpClient.Do(request)
	must(f.t, err)
	response.Body.Close()
	return response
}

func redirectsToHTTPS(f *field) {
	got := f.answerTo(http.MethodGet, "/a?b", "")
	if to := got.Header.Get("Location"); got.StatusCode != http.StatusPermanentRedirect || to != "https://"+f.host+"/a?b" {
		f.t.Errorf("answered with status %d, to %q", got.StatusCode, to)
	}
}

func refusesLongBodies(f *field) {
	for length, want := range map[int]int{10: http.StatusOK, 11: http.StatusRequestEntityTooLarge} {
		if got := f.answerTo(http.MethodPost, "/", strings.Repeat("x", length)); got.StatusCode != want {
			f.t.Errorf("a body of %d bytes is answered with status %d, want %d", length, got.StatusCode, want)
		}
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
	start := time.Now() // before anything is sent: a busy machine may come back here late
	h := f.holds("client")
	must(f.t, h.SetReadDeadline(start.Add(wait.Patience)))
	if n, err := h.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		f.t.Errorf("%d bytes, %v, want the connection closed", n, err)
	}
	if waited := time.Since(start); waited < 2900*time.Millisecond {
		f.t.Errorf("closed after %v, want 3s", waited)
	}
}

// A client that is silent is left, and one that waits for an answer is not.
func closesIdleClients(f *field) {
	if got := f.answerTo(http.MethodGet, "/slow/7000", ""); got.StatusCode != http.StatusOK {
		f.t.Errorf("a client that waits for an answer gets status %d", got.StatusCode)
	}
	conn, err := env.DialFrom(f.t.Context(), "client", "tcp", f.address)
	must(f.t, err)
	defer conn.Close()
	start := time.Now()
	must(f.t, conn.SetDeadline(start.Add(wait.Patience)))
	_, err = fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: %s\r\n\r\n", f.host)
	must(f.t, err)
	_, err = io.Copy(io.Discard, conn)
	if waited := time.Since(start); err != nil || waited < 2900*time.Millisecond {
		f.t.Errorf("closed after %v with %v, want 3s after an answer", waited, err)
	}
}

// A node that lets wait is given up, and a client that was silent for as long is not.
func waitsForNoLateAnswer(f *field) {
	if got := f.answerTo(http.MethodGet, "/slow/20000", ""); got.StatusCode != http.StatusGatewayTimeout {
		f.t.Errorf("an answer that comes too late has status %d", got.StatusCode)
	}
	client := env.HTTPClientFrom("client")
	defer client.CloseIdleConnections()
	_, err := f.request(f.t.Context(), client, f.host, 80)
	must(f.t, err)
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

// Many at once from one client are too many, and none of another's business.
func limitsTheRateOfEachClient(f *field) {
	const many = 20
	answered := make(chan bool, many)
	for range many {
		go func() {
			conn, err := env.DialFrom(f.t.Context(), "client", "tcp", f.address)
			if err != nil {
				answered <- false
				return
			}
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(wait.Patience)) // an error shows as no answer
			_, _ = fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", f.host)
			text, _ := io.ReadAll(conn)
			answered <- strings.HasPrefix(string(text), "HTTP/1.1 200 ")
		}()
	}
	count := 0
	for range many {
		if <-answered {
			count++
		}
	}
	if count == many {
		f.t.Errorf("all of %d requests at once are answered, want 2 each second", many)
	}
	other := env.HTTPClientFrom("client2")
	defer other.CloseIdleConnections()
	_, err := f.request(f.t.Context(), other, f.host, 80)
	must(f.t, err)
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
