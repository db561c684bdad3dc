package nginx

import (
	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/lb"
)

const (
	passive   = "nginx has no active checks: it judges a node by the connections that it makes to it"
	blind     = "nginx does not learn whether a datagram arrived, so it neither judges nodes by UDP nor tries another one"
	flows     = "nginx spreads UDP by a hash of the client's address and port, so that a client stays on one node"
	glued     = "nginx would put the header into the first datagram"
	affinity  = "nginx has one way to choose a node, and the Service's sessionAffinity decides it: a hash of the client's address"
	onlyIPVS  = "only LVS has it"
	bothSides = "nginx has one idle timeout for both sides of a connection: see timeouts.idle"
	asks      = "clients alone are asked; in whole seconds, rounded up; where it is taken away again, it goes with the next start of nginx"
	noQueue   = "nginx has no queue: a connection that finds no node with room is refused at once"
	openOnes  = "nginx counts connections that are open, not those that come: see maxConnectionsPerClient"
	requests  = "with mode=HTTP: requests that are under way, and one too many is answered with status 503"
	forwards  = "adds X-Forwarded-For, and sets X-Forwarded-Proto and X-Forwarded-Host; HTTP/2 with tls; passes upgrades such as WebSocket on; " +
		"at a reload, a few requests on connections that are kept alive may have to be sent again"
)

var capabilities = engine.Capabilities{
	Protocols:        []lb.Protocol{lb.TCP, lb.UDP},
	Direct:           false,
	PassiveChecks:    true,
	KeepsConnections: true,
	Backups: engine.Support{Note: "with UDP, algorithm SourceHash or Random, or sessionAffinity, nginx lets no node wait: all carry; " +
		"with maxConnectionsPerNode they carry what the others have no room for"},
	Fields: map[engine.Field]engine.Support{
		"algorithm=RoundRobin":            {Affinity: affinity, Note: "with UDP: " + flows},
		"algorithm=LeastConnections":      {UDP: flows, Affinity: affinity},
		"algorithm=SourceHash":            engine.Able,
		"algorithm=Random":                {UDP: flows, Affinity: affinity},
		"algorithm=DestinationHash":       {Missing: onlyIPVS, Affinity: affinity},
		"algorithm=ShortestExpectedDelay": {Missing: onlyIPVS, Affinity: affinity},
		"algorithm=NeverQueue":            {Missing: onlyIPVS, Affinity: affinity},
		"mode=TCP":                        engine.Able,
		"mode=HTTP":                       {UDP: "HTTP is spoken over TCP; a port of another protocol is carried as it is", Note: forwards},
		"http.redirectToHTTPS":            {TCP: engine.InHTTPAlone, UDP: engine.InHTTPAlone},
		"http.maxBodyBytes":               {TCP: engine.InHTTPAlone, UDP: engine.InHTTPAlone},
		"http.maxHeaderBytes":             {TCP: engine.InHTTPAlone, UDP: engine.InHTTPAlone, Note: "with the first line, which is answered with status 414 where it is too long; up to 1 KiB more may pass"},
		"proxyProtocol.send=None":         engine.Able,
		"proxyProtocol.send=V1":           {UDP: glued, HTTP: "nginx sends the PROXY protocol with mode: TCP alone; pods find the client in X-Forwarded-For"},
		"proxyProtocol.send=V2":           {Missing: "nginx sends only version 1 of the PROXY protocol"},
		"proxyProtocol.accept":            {UDP: "nginx does not accept the PROXY protocol over UDP"},
		"timeouts.connect":                {UDP: "with UDP there is no connection to wait for"},
		"timeouts.idle":                   engine.Able,
		"timeouts.client":                 {TCP: bothSides, UDP: bothSides},
		"timeouts.server":                 {TCP: bothSides, UDP: bothSides, Note: "a node that lets wait longer counts as one that failed"},
		"timeouts.queue":                  {Missing: noQueue},
		"timeouts.keepAlive":              {UDP: "UDP has no connection to keep", Note: asks},
		"healthCheck.type=Auto":           {Note: passive + "; " + blind},
		"healthCheck.type=None":           engine.Able,
		"healthCheck.type=TCP":            {Missing: passive},
		"healthCheck.type=HTTP":           {Missing: passive},
		"healthCheck.http":                {Missing: passive},
		"healthCheck.http.host":           {Missing: passive},
		"healthCheck.http.status":         {Missing: passive},
		"healthCheck.tcp":                 {Missing: passive},
		"healthCheck.interval":            {UDP: blind, Note: "in whole seconds, rounded up; a node that failed is left out for this long"},
		"healthCheck.timeout":             {Missing: passive + "; timeouts.connect bounds those"},
		"healthCheck.rise":                {Missing: passive + ", and uses it again after healthCheck.interval"},
		"healthCheck.fall":                {UDP: blind, Note: "connections that fail within healthCheck.interval; a node that is the only one is never left out"},
		"maxConnections":                  {Note: requests},
		"maxConnectionsPerNode":           {Note: "connections from before a reload are not counted; with mode=HTTP those are not that no request is on"},
		"maxQueue":                        {Missing: noQueue},
		"abortOnClose":                    {TCP: noQueue, UDP: noQueue, Note: "it is always so"},
		"maxConnectionsPerClient":         {Note: requests},
		"maxRatePerClient":                {TCP: openOnes, UDP: openOnes, Note: "counts requests; one too many is answered with status 429"},
		"accessLog":                       engine.Able,
		"retries":                         {UDP: blind, Note: "with mode=HTTP also where a node fails before it has answered, but for POST, PATCH and LOCK"},
		"slowStart":                       {Missing: "only the commercial nginx Plus has it"},
		"sourceAddresses":                 engine.Able,
		"drain":                           {Missing: "connections live on in the workers from before the reload, all of which end when worker_shutdown_timeout of your nginx.conf is over"},
		"tls.secretRef":                   {UDP: engine.TLSOverTCP, Note: "TLS 1.2 and 1.3; with mode=HTTP also HTTP/2, and X-Forwarded-Proto is https"},
	},
}
