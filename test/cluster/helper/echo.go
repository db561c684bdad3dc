package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

// Answer is what the echo server says on every protocol, as one line of JSON.
type Answer struct {
	Pod       string            `json:"pod"`
	Namespace string            `json:"namespace"`
	Node      string            `json:"node"`
	Labels    map[string]string `json:"labels,omitempty"`
	Protocol  string            `json:"protocol"`           // tcp, udp, sctp or http
	Client    string            `json:"client"`             // address and port that the server sees
	Server    string            `json:"server"`             // address and port that the client reached, in the pod
	Proxy     string            `json:"proxy,omitempty"`    // tcp only: the PROXY header, as version 1 writes it, after v1 or v2
	Received  string            `json:"received,omitempty"` // the line or datagram
	Path      string            `json:"path,omitempty"`     // http only, like the rest
	Host      string            `json:"host,omitempty"`
	Header    http.Header       `json:"header,omitempty"`
}

// echo serves a pod: the pod's identity comes from the environment, ports from flags.
//
// TCP: one Answer for each line that the client sends; the connection stays open until the client closes it.
// A PROXY header before the first line is no line.
// UDP: one Answer for each datagram. SCTP, over IPv4: one for the first message of an association.
// HTTP: one Answer for each request, except /healthz (200 "ok"); /delay?ms=N answers after N milliseconds,
// /bytes?n=N answers with N bytes of zeros, /status?code=N with that status code. For health checks, whose
// paths have no queries: /slow/N answers after N milliseconds, /except/NODE with 503 on that node, /host/NAME
// with 503 where the request names another host.
func echo(args []string) error {
	flags := flag.NewFlagSet("echo", flag.ContinueOnError)
	httpPort := flags.Int("http", 8080, "port for HTTP")
	tcpPort := flags.Int("tcp", 9000, "port for TCP")
	udpPort := flags.Int("udp", 9000, "port for UDP")
	sctpPort := flags.Int("sctp", 9000, "port for SCTP")
	if err := flags.Parse(args); err != nil {
		return err
	}
	who := Answer{Pod: os.Getenv("POD"), Namespace: os.Getenv("NAMESPACE"), Node: os.Getenv("NODE")}
	if labels := os.Getenv("LABELS"); labels != "" {
		if err := json.Unmarshal([]byte(labels), &who.Labels); err != nil {
			return err
		}
	}
	lines, err := net.Listen("tcp", ":"+strconv.Itoa(*tcpPort))
	if err != nil {
		return err
	}
	datagrams, err := net.ListenPacket("udp", ":"+strconv.Itoa(*udpPort))
	if err != nil {
		return err
	}
	web, err := net.Listen("tcp", ":"+strconv.Itoa(*httpPort))
	if err != nil {
		return err
	}
	raw, err := net.ListenPacket(sctpNetwork, "")
	if err != nil {
		return err
	}
	os.Stdout.WriteString("ready\n")
	failed := make(chan error)
	go func() { failed <- serveTCP(lines, who) }()
	go func() { failed <- serveUDP(datagrams, who) }()
	go func() { failed <- serveSCTP(raw, uint16(*sctpPort), who) }()
	go func() { failed <- http.Serve(web, handler(who)) }()
	return <-failed
}

func serveTCP(l net.Listener, who Answer) error {
	for {
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer conn.Close()
			answer := who
			answer.Protocol = "tcp"
			answer.Client, answer.Server = conn.RemoteAddr().String(), conn.LocalAddr().String()
			encode, from := json.NewEncoder(conn), bufio.NewReader(conn)
			answer.Proxy = takeProxyV2(from)
			for scan := bufio.NewScanner(from); scan.Scan(); {
				answer.Received = scan.Text()
				if header, ok := strings.CutPrefix(answer.Received, "PROXY "); ok && answer.Proxy == "" {
					answer.Proxy = "v1 " + header
					continue
				}
				if encode.Encode(answer) != nil {
					return
				}
			}
		}()
	}
}

func serveUDP(conn net.PacketConn, who Answer) error {
	buf := make([]byte, 64<<10)
	for {
		n, client, err := conn.ReadFrom(buf)
		if err != nil {
			return err
		}
		answer := who
		answer.Protocol, answer.Client, answer.Server = "udp", client.String(), conn.LocalAddr().String()
		answer.Received = string(buf[:n])
		data, err := json.Marshal(answer)
		if err != nil {
			return err
		}
		// A client that is gone is no reason to stop serving the others.
		_, _ = conn.WriteTo(append(data, '\n'), client)
	}
}

func handler(who Answer) http.Handler {
	mux := http.NewServeMux()
	respond := func(w http.ResponseWriter, r *http.Request) {
		answer := who
		answer.Protocol, answer.Client, answer.Path = "http", r.RemoteAddr, r.URL.RequestURI()
		answer.Host, answer.Header = r.Host, r.Header
		answer.Server = r.Context().Value(http.LocalAddrContextKey).(net.Addr).String()
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(answer)
	}
	number := func(text string) int {
		n, _ := strconv.Atoi(text)
		return max(n, 0)
	}
	mux.HandleFunc("/", respond)
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok\n")) })
	late := func(w http.ResponseWriter, r *http.Request, ms int) {
		select {
		case <-time.After(time.Duration(ms) * time.Millisecond):
			respond(w, r)
		case <-r.Context().Done():
		}
	}
	mux.HandleFunc("/delay", func(w http.ResponseWriter, r *http.Request) { late(w, r, number(r.FormValue("ms"))) })
	mux.HandleFunc("/slow/{ms}", func(w http.ResponseWriter, r *http.Request) { late(w, r, number(r.PathValue("ms"))) })
	unless := func(path string, well func(*http.Request) bool) {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			if !well(r) {
				w.WriteHeader(http.StatusServiceUnavailable)
			}
			respond(w, r)
		})
	}
	unless("/except/{node}", func(r *http.Request) bool { return r.PathValue("node") != who.Node })
	unless("/host/{name}", func(r *http.Request) bool { return r.PathValue("name") == r.Host })
	mux.HandleFunc("/bytes", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", strconv.Itoa(number(r.FormValue("n"))))
		chunk := make([]byte, 32<<10)
		for left := number(r.FormValue("n")); left > 0; left -= len(chunk) {
			if _, err := w.Write(chunk[:min(left, len(chunk))]); err != nil {
				return
			}
		}
	})
	mux.HandleFunc("/status", func(w http.ResponseWriter, r *http.Request) {
		if code := number(r.FormValue("code")); code >= 200 && code <= 599 {
			w.WriteHeader(code)
		}
		respond(w, r)
	})
	return mux
}
