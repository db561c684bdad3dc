package wire

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/external-lb/external-lb/internal/host"
	"github.com/external-lb/external-lb/internal/wire/wirepb"
)

// errAnswer is an answer that is not in the protocol.
var errAnswer = errors.New("the host's answer is none that this version knows")

// sendStatus sends a status; of its report what differs from base, the one that the
// other end has; nil: none.
func sendStatus(st host.Status, base *host.Report, send func(*wirepb.StatusResponse) error) error {
	summary := &wirepb.StatusSummary{
		Engine: bounded(st.Engine, nameMax), EngineVersion: bounded(st.EngineVersion, nameMax), Running: st.Running,
		Epoch: fromEpoch(st.Epoch), OldWorkers: int64(st.OldWorkers), Message: bounded(st.Message, textMax),
		Active: st.Active, Report: fromReport(st.Report, base), Templates: bounded(st.Templates, textMax),
		Connections: fromUse(st.Uses.Connections), Files: fromUse(st.Uses.Files), Memory: fromUse(st.Uses.Memory), Old: fromUse(st.Uses.Old),
		Tracked: fromUse(st.Uses.Tracked), Asked: fromTime(st.Clock.Asked), Answered: fromTime(st.Clock.Answered),
		Restarts: int64(st.Restarts), Restarted: bounded(st.Restarted, textMax),
	}
	if err := send(&wirepb.StatusResponse{Part: &wirepb.StatusResponse_Summary{Summary: summary}}); err != nil {
		return err
	}
	for part := range entryParts(st.Report, base) {
		if err := send(&wirepb.StatusResponse{Part: &wirepb.StatusResponse_Entries{Entries: part}}); err != nil {
			return err
		}
	}
	if summary.Report.SameRefusals {
		return nil
	}
	for part := range refusalParts(st.Refused) {
		if err := send(&wirepb.StatusResponse{Part: &wirepb.StatusResponse_Refused{Refused: part}}); err != nil {
			return err
		}
	}
	return nil
}

// receiveStatus reads a status. base is the report whose Digest was sent; nil: none.
func receiveStatus(base *host.Report, recv func() (*wirepb.StatusResponse, error)) (host.Status, error) {
	first, err := recv()
	if err != nil {
		return host.Status{}, unanswered(err)
	}
	s := first.GetSummary()
	if s == nil {
		return host.Status{}, errAnswer
	}
	st := host.Status{
		Engine: bounded(s.GetEngine(), nameMax), EngineVersion: bounded(s.GetEngineVersion(), nameMax), Running: s.GetRunning(),
		Epoch: toEpoch(s.GetEpoch()), OldWorkers: int(max(0, s.GetOldWorkers())), Message: bounded(s.GetMessage(), textMax),
		Active: s.GetActive(), Templates: bounded(s.GetTemplates(), textMax),
		Restarts: int(min(max(0, s.GetRestarts()), restartsMax)), Restarted: bounded(s.GetRestarted(), textMax),
	}
	st.Uses.Connections, st.Uses.Files, st.Uses.Memory = toUse(s.GetConnections()), toUse(s.GetFiles()), toUse(s.GetMemory())
	st.Uses.Old, st.Uses.Tracked = toUse(s.GetOld()), toUse(s.GetTracked())
	st.Clock = host.Clock{Asked: toTime(s.GetAsked()), Answered: toTime(s.GetAnswered())}
	if st.Report, err = receiveReport(s.GetReport(), base, recv); err != nil {
		return host.Status{}, err
	}
	return st, nil
}

// restartsMax is how many restarts of a host are believed.
const restartsMax = 1 << 20

func fromTime(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

func toTime(nanoseconds int64) time.Time {
	if nanoseconds <= 0 {
		return time.Time{}
	}
	return time.Unix(0, nanoseconds)
}

func fromUse(u host.Use) *wirepb.Use {
	return &wirepb.Use{Used: int64(u.Used), Limit: int64(u.Limit)}
}

func toUse(u *wirepb.Use) host.Use {
	const most = 1 << 50 // so that hundredths of it can be counted
	bound := func(n int64) int { return int(min(max(n, 0), most)) }
	return host.Use{Used: bound(u.GetUsed()), Limit: bound(u.GetLimit())}
}

func sendOutcome(out host.Outcome, base *host.Report, send func(*wirepb.ApplyResponse) error) error {
	summary := &wirepb.OutcomeSummary{Report: fromReport(out.Report, base), Reloaded: out.Reloaded, Active: out.Active, Old: fromUse(out.Old)}
	if err := send(&wirepb.ApplyResponse{Part: &wirepb.ApplyResponse_Summary{Summary: summary}}); err != nil {
		return err
	}
	for part := range entryParts(out.Report, base) {
		if err := send(&wirepb.ApplyResponse{Part: &wirepb.ApplyResponse_Entries{Entries: part}}); err != nil {
			return err
		}
	}
	if summary.Report.SameRefusals {
		return nil
	}
	for part := range refusalParts(out.Refused) {
		if err := send(&wirepb.ApplyResponse{Part: &wirepb.ApplyResponse_Refused{Refused: part}}); err != nil {
			return err
		}
	}
	return nil
}

func receiveOutcome(base *host.Report, recv func() (*wirepb.ApplyResponse, error)) (host.Outcome, error) {
	first, err := recv()
	if err != nil {
		return host.Outcome{}, unanswered(err)
	}
	s := first.GetSummary()
	if s == nil {
		return host.Outcome{}, errAnswer
	}
	out := host.Outcome{Reloaded: s.GetReloaded(), Active: s.GetActive(), Old: toUse(s.GetOld())}
	if out.Report, err = receiveReport(s.GetReport(), base, recv); err != nil {
		return host.Outcome{}, err
	}
	return out, nil
}

// unanswered is what an end before the first part means.
func unanswered(err error) error {
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: the host ended its answer before it began", ErrLost)
	}
	return err
}
