package render_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/engine/haproxy"
	"github.com/external-lb/external-lb/test/wait"
)

// ports finds those of our own in lines of a log: HAProxy's have the name of what listens.
var ports = map[bool]*regexp.Regexp{false: regexp.MustCompile(`(?m)^(\d+)$`), true: regexp.MustCompile(`\.(\d+)\.tcp `)}

// logs returns what says which ports a daemon has logged something of.
func (d daemon) logs(t testing.TB) func() []string {
	t.Helper()
	var text []byte
	more := func() { text, _ = os.ReadFile(filepath.Join(d.dir, "access.log")) } // there is none yet
	if d.engine == haproxy.Engine {
		socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Net: "unixgram", Name: filepath.Join(d.dir, "log.sock")})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { socket.Close() })
		line := make([]byte, 4096)
		more = func() {
			for {
				_ = socket.SetReadDeadline(time.Now().Add(10 * time.Millisecond)) // it is open
				n, err := socket.Read(line)
				if err != nil {
					return
				}
				text = append(append(text, line[:n]...), '\n')
			}
		}
	}
	return func() (logged []string) {
		more()
		for _, m := range ports[d.engine == haproxy.Engine].FindAllSubmatch(text, -1) {
			logged = append(logged, string(m[1]))
		}
		return logged
	}
}

// What is carried is logged as the host's owner has it, and what shall not be is not.
func TestWhatIsNotToBeLoggedIsNot(t *testing.T) {
	names := []string{"quiet", "quiet web", "logged", "logged web"} // the quiet ones first
	onEngines(t, func(t onEngine) {
		node, web := startNode(t, "127.0.0.1").address, startWeb(t)
		at, port := map[string]string{}, map[string]string{}
		var all []engine.Frontend
		for i, name := range names {
			at[name] = freeAddress(t, fmt.Sprintf("127.1.0.%d", 84+i))
			_, port[name], _ = net.SplitHostPort(at[name])
			f := tcp(at[name], node)
			if strings.HasSuffix(name, "web") {
				f = with(tcp(at[name], web), inHTTP)
			}
			f.Settings.NoAccessLog = strings.HasPrefix(name, "quiet")
			all = append(all, f)
		}
		logged := serve(t, all...).logs(t)
		for _, name := range names {
			if !strings.HasSuffix(name, "web") {
				conn, _ := client("").ask(t, at[name], "hello\n")
				conn.Close()
				continue
			}
			talk(t, at[name], "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
		}
		wait.True(t, "the others are logged", func() bool {
			got := logged()
			return slices.Contains(got, port["logged"]) && slices.Contains(got, port["logged web"])
		})
		if got := logged(); slices.Contains(got, port["quiet"]) || slices.Contains(got, port["quiet web"]) {
			t.Errorf("%v have been logged, of %v", got, port)
		}
	})
}
