package cli

import (
	"strings"
	"testing"

	"github.com/external-lb/external-lb/internal/engine/engines"
	"github.com/external-lb/external-lb/internal/host"
)

// The share of one Service is about what the proxy carries.
func TestHostStatus_WhatOneServiceMayHave(t *testing.T) {
	for settings, want := range map[string]string{
		"connectionsPerService: 9":                   "at most 9 clients connected\n",
		"connectionsPerService: 9\ndatagrams: lvs\n": "at most 9 clients connected over TCP\n",
	} {
		s, err := host.ParseSettings([]byte(settings), &engines.Table)
		if err != nil {
			t.Fatal(err)
		}
		var out strings.Builder
		if err := printHostStatus(&out, s, hostStatus{}); err != nil || !strings.Contains(out.String(), want) {
			t.Errorf("%q: %v\n%s", settings, err, &out)
		}
	}
}
