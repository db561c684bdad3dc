package nginx

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/external-lb/external-lb/internal/engine"
)

// checkConnections is more than any number of listeners: the check is not about
// the owner's limits.
const checkConnections = 1 << 20

// IncludeText is what the owner's stream block includes.
func (n *Daemon) IncludeText() []byte {
	return fmt.Appendf(nil, `# Made by `+"`external-lb host install`"+`. To be included in nginx's stream block.
include %[1]s/live/*.conf;
include %[1]s/live/services/*.conf;
`, n.dir)
}

// HTTPIncludeText is what the owner's http block includes.
func (n *Daemon) HTTPIncludeText() []byte {
	return fmt.Appendf(nil, `# Made by `+"`external-lb host install`"+`. To be included in nginx's http block.
include %s/live/%s*.conf;
`, n.dir, engine.HTTPPrefix)
}

// CheckText surrounds a candidate that is tested by itself.
func (n *Daemon) CheckText(modules []string) []byte {
	return fmt.Appendf(nil, `# Made by `+"`external-lb host install`"+`. Only for tests of a configuration before it goes live.
%[2]spid /dev/null;
error_log stderr;
events {
    worker_connections %[3]d;
}
http {
    access_log off;
    include %[1]s/candidate/%[4]s*.conf;
}
stream {
    include %[1]s/candidate/*.conf;
    include %[1]s/candidate/services/*.conf;
}
`, n.dir, strings.Join(modules, ""), checkConnections, engine.HTTPPrefix)
}

// setLink is the name of the links by which nginx finds certificates: their paths
// are relative to the directory of the file that it was started with.
const setLink = "external-lb"

// Links to the set, for what runs and for the check of a candidate.
func (n *Daemon) Links() map[string]string {
	return map[string]string{
		filepath.Join(filepath.Dir(n.Conf), setLink):      filepath.Join(n.dir, engine.LiveLink),
		filepath.Join(filepath.Dir(n.CheckConf), setLink): filepath.Join(n.dir, engine.CandidateLink),
	}
}
