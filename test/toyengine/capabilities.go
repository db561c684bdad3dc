package toyengine

import (
	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/lb"
)

const (
	oneAfterAnother = "toyd takes one node after another"
	noChecks        = "toyd checks no nodes by itself"
	noLimits        = "toyd counts no connections"
	noTimeouts      = "toyd keeps a connection for as long as both ends do"
)

var capabilities = engine.Capabilities{
	Protocols:        []lb.Protocol{lb.TCP},
	Direct:           false,
	PassiveChecks:    true,
	KeepsConnections: true,
	Backups:          engine.Support{Missing: oneAfterAnother},
	Fields: map[engine.Field]engine.Support{
		"algorithm=RoundRobin":            engine.Able,
		"algorithm=LeastConnections":      {Missing: oneAfterAnother},
		"algorithm=SourceHash":            {Missing: oneAfterAnother},
		"algorithm=Random":                {Missing: oneAfterAnother},
		"algorithm=DestinationHash":       {Missing: oneAfterAnother},
		"algorithm=ShortestExpectedDelay": {Missing: oneAfterAnother},
		"algorithm=NeverQueue":            {Missing: oneAfterAnother},
		"mode=TCP":                        engine.Able,
		"mode=HTTP":                       {Missing: "toyd does not know HTTP"},
		"http.redirectToHTTPS":            {Missing: "toyd does not know HTTP"},
		"http.maxBodyBytes":               {Missing: "toyd does not know HTTP"},
		"http.maxHeaderBytes":             {Missing: "toyd does not know HTTP"},
		"proxyProtocol.send=None":         engine.Able,
		"proxyProtocol.send=V1":           {Missing: "toyd has no PROXY protocol"},
		"proxyProtocol.send=V2":           {Missing: "toyd has no PROXY protocol"},
		"proxyProtocol.accept":            {Missing: "toyd has no PROXY protocol"},
		"timeouts.connect":                engine.Able,
		"timeouts.idle":                   {Missing: noTimeouts},
		"timeouts.client":                 {Missing: noTimeouts},
		"timeouts.server":                 {Missing: noTimeouts},
		"timeouts.queue":                  {Missing: noLimits},
		"timeouts.keepAlive":              {Missing: noTimeouts},
		"healthCheck.type=Auto":           {Note: "a node that does not answer is passed over by that connection"},
		"healthCheck.type=None":           engine.Able,
		"healthCheck.type=TCP":            {Missing: noChecks},
		"healthCheck.type=HTTP":           {Missing: noChecks},
		"healthCheck.http":                {Missing: noChecks},
		"healthCheck.http.host":           {Missing: noChecks},
		"healthCheck.http.status":         {Missing: noChecks},
		"healthCheck.tcp":                 {Missing: noChecks},
		"healthCheck.interval":            {Missing: noChecks},
		"healthCheck.timeout":             {Missing: noChecks},
		"healthCheck.rise":                {Missing: noChecks},
		"healthCheck.fall":                {Missing: noChecks},
		"maxConnections":                  {Missing: noLimits},
		"maxConnectionsPerNode":           {Missing: noLimits},
		"maxQueue":                        {Missing: noLimits},
		"abortOnClose":                    {Missing: noLimits},
		"maxConnectionsPerClient":         {Missing: noLimits},
		"maxRatePerClient":                {Missing: noLimits},
		"accessLog":                       {Missing: "toyd logs nothing"},
		"retries":                         engine.Able,
		"slowStart":                       {Missing: noChecks},
		"sourceAddresses":                 {Missing: "toyd connects from whichever address the kernel chooses"},
		"drain":                           {Missing: "toyd ends when its last connection does"},
		"tls.secretRef":                   {Missing: "toyd does not know TLS"},
	},
}
