package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
)

// checkConnections is more than any number of listeners: the check is not about
// the owner's limits.
const checkConnections = 1 << 20

// includeConf is what the owner's stream block includes.
func (n *nginx) includeConf() []byte {
	return fmt.Appendf(nil, `# Made by `+"`external-lb host install`"+`. To be included in nginx's stream block.
include %[1]s/live/*.conf;
include %[1]s/live/services/*.conf;
`, n.dir)
}

// checkConf surrounds a candidate that is tested by itself.
func (n *nginx) checkConf(modules []string) []byte {
	return fmt.Appendf(nil, `# Made by `+"`external-lb host install`"+`. Only for tests of a configuration before it goes live.
%[2]spid /dev/null;
error_log stderr;
events {
    worker_connections %[3]d;
}
stream {
    include %[1]s/candidate/*.conf;
    include %[1]s/candidate/services/*.conf;
}
`, n.dir, strings.Join(modules, ""), checkConnections)
}

// setLink is the name of the links by which nginx finds certificates: their paths
// are relative to the directory of the file that it was started with.
const setLink = "external-lb"

// links to the set, for what runs and for the check of a candidate.
func (n *nginx) links() map[string]string {
	return map[string]string{
		filepath.Join(filepath.Dir(n.Conf), setLink):      filepath.Join(n.dir, liveLink),
		filepath.Join(filepath.Dir(n.CheckConf), setLink): filepath.Join(n.dir, candidateLink),
	}
}

// initialise gives a directory its first generation, which is empty, unless it
// has one.
func (a *Agent) initialise(ctx context.Context) error {
	s, err := openStore(a.dir)
	if err != nil {
		return err
	}
	defer s.close() // nothing is written to a directory
	unlock, err := s.lock(ctx, true)
	if err != nil {
		return err
	}
	defer unlock()
	st, err := s.readState()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := s.root.Mkdir(genDir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := errors.Join(s.own(lockFile), s.own(genDir)); err != nil {
		return err
	}
	g, err := s.stage("", nil)
	if err != nil {
		return err
	}
	if err := a.seal(g); err != nil {
		return err
	}
	if err := errors.Join(s.link(nextLink, g.name), s.rename(nextLink, liveLink)); err != nil {
		return err
	}
	st.Good, st.Previous = g.name, ""
	return errors.Join(s.writeState(st), s.clean(st))
}

// initialised reports whether there is a generation to start from.
func (a *Agent) initialised() bool {
	s, err := openStore(a.dir)
	if err != nil {
		return false
	}
	defer s.close() // nothing is written to a directory
	st, err := s.readState()
	if err != nil {
		return false
	}
	_, ok := a.digest(s, st.Good)
	return ok && s.linked(liveLink) != ""
}
