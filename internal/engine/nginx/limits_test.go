package nginx

import (
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

func TestWhatNginxHolds(t *testing.T) {
	for conf, want := range map[string]int{
		"worker_processes 4;\nevents { worker_connections 20000; }\n":                        40000,
		"worker_processes 4;\nevents { worker_connections 768; }\n":                          4 * leastConnections / 2,
		"worker_processes auto;\nevents { worker_connections 20000; }\n":                     10000 * runtime.NumCPU(),
		"# worker_processes 4;\nworker_processes 0;\nevents {\nworker_connections 20000;}\n": 10000,
		"events { worker_connections 20000; }\n":                                             10000,
	} {
		p := &installer{owners: readOwnersConf("# configuration file /etc/nginx/nginx.conf:\n"+conf, "/etc/nginx/nginx.conf")}
		if got := p.Holds(); got != want {
			t.Errorf("%q: %d, want %d", conf, got, want)
		}
	}
}

// Debian's own settings do not carry a balancer; what is said names the line.
func TestWhatIsShort(t *testing.T) {
	const debian = "user www-data;\npid /run/nginx.pid;\n\nevents {\n\tworker_connections 768;\n}\n"
	for name, tc := range map[string]struct {
		conf string
		want string // the pieces of advice, a line each
	}{
		"Debian's":         {debian, "write `worker_connections 8192;` instead of 768 at /etc/nginx/nginx.conf:5\nwrite `worker_rlimit_nofile 16384;` as the first line of /etc/nginx/nginx.conf"},
		"enough":           {"worker_rlimit_nofile 16384;\nevents { worker_connections 8192; }\n", ""},
		"more":             {"worker_rlimit_nofile 100000;\nevents {\nworker_connections 65536;\n}\n", ""},
		"nothing is said":  {"worker_rlimit_nofile 16384;\nevents {}\n", "write `worker_connections 8192;` into the events block of /etc/nginx/nginx.conf"},
		"too few files":    {"worker_rlimit_nofile 1024;\nevents { worker_connections 8192; }\n", "write `worker_rlimit_nofile 16384;` instead of 1024 at /etc/nginx/nginx.conf:1"},
		"only in a remark": {"worker_rlimit_nofile 16384;\nevents {\n# worker_connections 8192;\n}\n", "write `worker_connections 8192;` into the events block of /etc/nginx/nginx.conf"},
	} {
		t.Run(name, func(t *testing.T) {
			const main = "/etc/nginx/nginx.conf"
			p := &installer{nginx: &Daemon{Settings: &Settings{Conf: main, PIDFile: filepath.Join(t.TempDir(), "nginx.pid")}}}
			p.owners = readOwnersConf("# configuration file "+main+":\n"+tc.conf, main)
			if got := strings.Join(p.Short(), "\n"); got != tc.want {
				t.Errorf("got\n%s\nwant\n%s", got, tc.want)
			}
		})
	}
}
