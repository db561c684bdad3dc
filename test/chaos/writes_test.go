package chaos

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"time"
)

// auditPolicy writes down each request of the manager that changes something, but for
// those of the leader election.
const auditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: None
  resources: [{group: coordination.k8s.io}]
- level: Metadata
  users: ["system:serviceaccount:external-lb-system:external-lb"]
  verbs: [create, update, patch, delete]
- level: None
`

// audit is where the API server writes what the manager writes, and how it is told to.
func audit(dir string) (log *writeLog, arguments []string, err error) {
	policy := filepath.Join(dir, "policy.yaml")
	log = &writeLog{path: filepath.Join(dir, "audit.log")}
	return log, []string{"--audit-policy-file=" + policy, "--audit-log-path=" + log.path}, os.WriteFile(policy, []byte(auditPolicy), 0o600)
}

// written are the requests that the manager has made, in their order.
type written struct {
	StageTimestamp time.Time `json:"stageTimestamp"`
	Verb           string    `json:"verb"`
	ObjectRef      struct {
		Resource, Namespace, Name, Subresource string
	} `json:"objectRef"`
	ResponseStatus struct {
		Code int `json:"code"`
	} `json:"responseStatus"`
}

func (w *written) isEvent() bool { return w.ObjectRef.Resource == "events" }

// writeLog is what the API server has written down so far.
type writeLog struct {
	path string
	read int64 // bytes
	all  []written
}

// update reads what is new; the last line may be half written.
func (l *writeLog) update() error {
	f, err := os.Open(l.path)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Seek(l.read, io.SeekStart); err != nil {
		return err
	}
	lines := bufio.NewReader(f)
	for {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		l.read += int64(len(line))
		var w written
		if json.Unmarshal(line, &w) == nil { // a kill of the API server may have cut one
			l.all = append(l.all, w)
		}
	}
}

// most counts how many there are within any minute.
func most(all []written, counts func(*written) bool) (peak int) {
	var within []time.Time
	for i := range all {
		if !counts(&all[i]) {
			continue
		}
		at := all[i].StageTimestamp
		within = append(within, at)
		for within[0].Before(at.Add(-time.Minute)) {
			within = within[1:]
		}
		peak = max(peak, len(within))
	}
	return peak
}
