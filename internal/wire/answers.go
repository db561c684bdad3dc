package wire

import (
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/external-lb/external-lb/internal/fileset"
	"github.com/external-lb/external-lb/internal/host"
	"github.com/external-lb/external-lb/internal/wire/wirepb"
)

func sendStatus(st host.Status, send func(*wirepb.StatusResponse) error) error {
	summary := &wirepb.StatusSummary{
		Engine: bounded(st.Engine), EngineVersion: bounded(st.EngineVersion), Running: st.Running,
		Epoch: fromEpoch(st.Epoch), Live: string(st.Live), OldWorkers: int64(st.OldWorkers), Message: bounded(st.Message),
		Active: st.Active,
	}
	if err := send(&wirepb.StatusResponse{Part: &wirepb.StatusResponse_Summary{Summary: summary}}); err != nil {
		return err
	}
	for part := range manifestParts(st.Files) {
		if err := send(&wirepb.StatusResponse{Part: &wirepb.StatusResponse_Files{Files: part}}); err != nil {
			return err
		}
	}
	return nil
}

func receiveStatus(recv func() (*wirepb.StatusResponse, error)) (host.Status, error) {
	first, err := recv()
	if err != nil {
		return host.Status{}, unanswered(err)
	}
	s := first.GetSummary()
	if s == nil {
		return host.Status{}, errors.New("the host's answer does not begin with its summary")
	}
	live, err := toDigest(s.GetLive())
	if err != nil {
		return host.Status{}, err
	}
	st := host.Status{
		Engine: s.GetEngine(), EngineVersion: s.GetEngineVersion(), Running: s.GetRunning(),
		Epoch: toEpoch(s.GetEpoch()), Live: live, Files: fileset.Manifest{},
		OldWorkers: int(s.GetOldWorkers()), Message: s.GetMessage(), Active: s.GetActive(),
	}
	for {
		m, err := recv()
		if errors.Is(err, io.EOF) {
			return st, nil
		}
		if err == nil {
			err = addEntries(st.Files, m.GetFiles())
		}
		if err != nil {
			return host.Status{}, err
		}
	}
}

func sendOutcome(out host.Outcome, send func(*wirepb.ApplyResponse) error) error {
	summary := &wirepb.OutcomeSummary{Live: string(out.Live), Reloaded: out.Reloaded, Active: out.Active}
	if err := send(&wirepb.ApplyResponse{Part: &wirepb.ApplyResponse_Summary{Summary: summary}}); err != nil {
		return err
	}
	for part := range manifestParts(out.Files) {
		if err := send(&wirepb.ApplyResponse{Part: &wirepb.ApplyResponse_Files{Files: part}}); err != nil {
			return err
		}
	}
	for batch := range slices.Chunk(out.Refused, batchSize) {
		part := &wirepb.Refusals{}
		for _, r := range batch {
			part.Refusals = append(part.Refusals, &wirepb.Refusal{Path: r.Path, Reason: bounded(r.Reason)})
		}
		if err := send(&wirepb.ApplyResponse{Part: &wirepb.ApplyResponse_Refused{Refused: part}}); err != nil {
			return err
		}
	}
	return nil
}

func receiveOutcome(recv func() (*wirepb.ApplyResponse, error)) (host.Outcome, error) {
	first, err := recv()
	if err != nil {
		return host.Outcome{}, unanswered(err)
	}
	s := first.GetSummary()
	if s == nil {
		return host.Outcome{}, errors.New("the host's answer does not begin with its summary")
	}
	live, err := toDigest(s.GetLive())
	if err != nil {
		return host.Outcome{}, err
	}
	out := host.Outcome{Live: live, Reloaded: s.GetReloaded(), Active: s.GetActive(), Files: fileset.Manifest{}}
	for {
		m, err := recv()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err == nil {
			err = addEntries(out.Files, m.GetFiles())
		}
		if err != nil {
			return host.Outcome{}, err
		}
		for _, r := range m.GetRefused().GetRefusals() {
			out.Refused = append(out.Refused, host.Refusal{Path: r.GetPath(), Reason: r.GetReason()})
		}
	}
}

// unanswered is what an end before the first part means.
func unanswered(err error) error {
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: the host ended its answer before it began", ErrLost)
	}
	return err
}
