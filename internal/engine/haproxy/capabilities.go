package haproxy

import (
	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/lb"
)

const (
	affinity  = "HAProxy has one way to choose a node, and the Service's sessionAffinity decides it: a hash of the client's address"
	uncounted = "connections from before a reload are not counted"
	forwarded = "adds X-Forwarded-For, and sets X-Forwarded-Proto and X-Forwarded-Host; at a reload, a few requests on connections that are kept alive may have to be sent again"
	followed  = "kube-proxy's health check on port 10256 of each node, once for all Services; for a Service with externalTrafficPolicy: Local, its healthCheckNodePort; pods are asked for a connection"
	onlyIPVS  = "only LVS has it"
)

var capabilities = engine.Capabilities{
	Protocols:        []lb.Protocol{lb.TCP},
	Direct:           false,
	PassiveChecks:    false,
	SharesChecks:     true,
	KeepsConnections: true,
	Backups:          engine.Support{Note: "with healthCheck.type None no node is ever down, so none that waits carries"},
	Fields: map[engine.Field]engine.Support{
		"algorithm=RoundRobin":            {Affinity: affinity},
		"algorithm=LeastConnections":      {Affinity: affinity},
		"algorithm=SourceHash":            engine.Able,
		"algorithm=Random":                {Affinity: affinity},
		"algorithm=DestinationHash":       {Missing: onlyIPVS, Affinity: affinity},
		"algorithm=ShortestExpectedDelay": {Missing: onlyIPVS, Affinity: affinity},
		"algorithm=NeverQueue":            {Missing: onlyIPVS, Affinity: affinity},
		"mode=TCP":                        engine.Able,
		"mode=HTTP":                       {Note: forwarded},
		"http.redirectToHTTPS":            {TCP: engine.InHTTPAlone},
		"http.maxBodyBytes":               {TCP: engine.InHTTPAlone, Note: "as a request says its length; of one that does not, as much as has come at once"},
		"http.maxHeaderBytes":             {TCP: engine.InHTTPAlone, Note: "no more than HAProxy's buffer has room for, 15 KiB unless your tune.bufsize is larger; the first line is counted by itself"},
		"proxyProtocol.send=None":         engine.Able,
		"proxyProtocol.send=V1":           engine.Able,
		"proxyProtocol.send=V2":           engine.Able,
		"proxyProtocol.accept":            engine.Able,
		"timeouts.connect":                engine.Able,
		"timeouts.idle":                   engine.Able,
		"timeouts.client":                 engine.Able,
		"timeouts.server":                 engine.Able,
		"timeouts.queue":                  engine.Able,
		"timeouts.keepAlive":              {Note: "in whole seconds, rounded up"},
		"healthCheck.type=Auto":           {Note: followed},
		"healthCheck.type=None":           engine.Able,
		"healthCheck.type=TCP":            {Note: "a connection to the nodePort of each node, for each port of the Service"},
		"healthCheck.type=HTTP":           engine.Able,
		"healthCheck.http":                {Note: "with a port, each node is asked once for all Services that ask the same"},
		"healthCheck.http.host":           engine.Able,
		"healthCheck.http.status":         engine.Able,
		"healthCheck.tcp":                 engine.Able,
		"healthCheck.interval":            engine.Able,
		"healthCheck.timeout":             engine.Able,
		"healthCheck.rise":                engine.Able,
		"healthCheck.fall":                engine.Able,
		"maxConnections":                  {Note: uncounted},
		"maxConnectionsPerNode":           {Note: uncounted + "; a connection waits for timeouts.queue for a node with room"},
		"maxQueue":                        {Note: "a connection too many is closed; with mode=HTTP it is answered with status 503"},
		"abortOnClose":                    engine.Able,
		"maxConnectionsPerClient":         {Note: uncounted},
		"maxRatePerClient":                {Note: "connections that are refused count, too"},
		"accessLog":                       {Note: "a TLS handshake that fails, and what is no request, are logged all the same"},
		"retries":                         engine.Able,
		"drain":                           {Note: "within two seconds; with mode=HTTP a request that has not ended is cut, too"},
		"slowStart":                       {Note: "not after a reload, nor of a node that is new"},
		"sourceAddresses":                 {Note: "also for the checks of a Service's own nodePorts; kube-proxy is asked from the host's own address"},
		"tls.secretRef":                   {UDP: engine.TLSOverTCP, Note: "TLS 1.2 and 1.3; with mode=HTTP also HTTP/2, and X-Forwarded-Proto is https"},
	},
}
