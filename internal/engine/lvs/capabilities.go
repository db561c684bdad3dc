package lvs

import (
	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/lb"
)

const (
	affinity  = "hosts that share the traffic must send a client to the same node, and the Service's sessionAffinity decides it: a hash of the client's address"
	packets   = "LVS forwards packets in the kernel, and understands nothing of what is in them"
	keepsAddr = packets + "; spec.lvs.forwarding: DR keeps the client's address"
	plain     = "LVS forwards packets in the kernel and terminates nothing; so that nobody is served in plain text, the port is not carried"
	asked     = "asked over TCP, a port of another protocol would not answer; kube-proxy's health check says how the node is (Auto)"
	noQueue   = "IPVS has no queue: a connection that finds no node with room is not answered"
	kernels   = "the kernel has one idle timeout for all connections (15 minutes for TCP, 5 for UDP): ipvsadm --set on the host changes it"
	flows     = "a flow of datagrams has no end: it stays on its node until it has been silent for the kernel's idle timeout, 5 minutes for UDP"
	drains    = "for a node that is cordoned, with spec.nodes.cordoned: Drain, or whose last endpoints terminate; all others that leave, and a Service that is deleted, end their connections at once; " +
		"a connection is reset at its next packet; not with spec.lvs.forwarding: DR"
	perServer = "each node is asked for each port of each Service: with many of both, set spec.nodes.maxPerService or a longer interval"
)

var capabilities = engine.Capabilities{
	Protocols:        []lb.Protocol{lb.TCP, lb.UDP, lb.SCTP},
	Direct:           true,
	PassiveChecks:    false,
	KeepsConnections: false,
	Backups:          engine.Support{Missing: "keepalived knows one sorry server, and does not ask it how it is: all nodes carry"},
	NoShares:         "IPVS counts connections for each node alone; maxConnectionsPerNode bounds those of a port",
	Fields: map[engine.Field]engine.Support{
		"algorithm=RoundRobin":            {Affinity: affinity},
		"algorithm=LeastConnections":      {Affinity: affinity},
		"algorithm=SourceHash":            engine.Able,
		"algorithm=Random":                {Missing: "IPVS has no such scheduler", Affinity: affinity},
		"algorithm=DestinationHash":       {Affinity: affinity, Note: "all clients of one address are on one node"},
		"algorithm=ShortestExpectedDelay": {Affinity: affinity},
		"algorithm=NeverQueue":            {Affinity: affinity},
		"mode=TCP":                        engine.Able,
		"mode=HTTP":                       {Missing: packets},
		"http.redirectToHTTPS":            {Missing: packets},
		"http.maxBodyBytes":               {Missing: packets},
		"http.maxHeaderBytes":             {Missing: packets},
		"proxyProtocol.send=None":         engine.Able,
		"proxyProtocol.send=V1":           {Missing: keepsAddr},
		"proxyProtocol.send=V2":           {Missing: keepsAddr},
		"proxyProtocol.accept":            {Missing: packets},
		"timeouts.connect":                {Missing: "LVS makes no connections: clients connect to the nodes themselves"},
		"timeouts.idle":                   {Missing: kernels},
		"timeouts.client":                 {Missing: kernels},
		"timeouts.server":                 {Missing: kernels},
		"timeouts.queue":                  {Missing: noQueue},
		"timeouts.keepAlive":              {Missing: "LVS forwards packets in the kernel: clients and nodes ask each other"},
		"healthCheck.type=Auto":           {Note: "kube-proxy's health check on port 10256, or the Service's healthCheckNodePort; pods are asked for a connection over TCP, and with UDP and SCTP not at all; " + perServer},
		"healthCheck.type=None":           engine.Able,
		"healthCheck.type=TCP":            {UDP: asked, Note: "a connection to the nodePort; " + perServer},
		"healthCheck.type=HTTP":           {UDP: asked, Note: perServer},
		"healthCheck.http":                engine.Able,
		"healthCheck.http.host":           engine.Able,
		"healthCheck.http.status":         engine.Able,
		"healthCheck.tcp":                 {Missing: "keepalived's TCP check makes a connection and says nothing"},
		"healthCheck.interval":            engine.Able,
		"healthCheck.timeout":             {Note: "in whole seconds, rounded up"},
		"healthCheck.rise":                {Missing: "keepalived takes a node back at the first check that succeeds"},
		"healthCheck.fall":                engine.Able,
		"maxConnections":                  {Missing: "IPVS counts connections for each node: see maxConnectionsPerNode"},
		"maxConnectionsPerNode":           {Note: "connections that are not answered when all nodes are full; a connection that has ended counts for up to two minutes"},
		"maxQueue":                        {Missing: noQueue},
		"abortOnClose":                    {Missing: noQueue},
		"maxConnectionsPerClient":         {Missing: "IPVS does not count the connections of a client"},
		"maxRatePerClient":                {Missing: "IPVS does not count the connections of a client"},
		"accessLog":                       {Missing: packets + ": it logs no connection in any case"},
		"retries":                         {Missing: "LVS makes no connections: a client whose node does not answer tries again itself"},
		"slowStart":                       {Missing: "keepalived gives a node that passes its check again its whole weight at once"},
		"sourceAddresses":                 {Missing: "LVS makes no connections: packets come from the address by which the host reaches the node, with spec.lvs.forwarding: DR from the client's"},
		"drain":                           {UDP: flows, Note: drains},
		"tls.secretRef":                   {Missing: plain},
	},
}
