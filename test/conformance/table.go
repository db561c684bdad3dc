package conformance

import "github.com/external-lb/external-lb/api/v1alpha1"

// Octavia is a Balancer with engine: provider, in front of OpenStack's Octavia.
const Octavia v1alpha1.Engine = "octavia"

const (
	noUDP      = "HAProxy does not carry UDP: the port gets an error in the Service's status"
	everything = "LVS carries every protocol of a Service"
	proxies    = "is a proxy: packets never reach a node as they came"

	oneFamily   = "the provider for OpenStack makes one address, of IPv4: the Service's condition LoadBalancerPortsError says so of the other one"
	sameNode    = "Local, a client that keeps its port and asks on: Octavia's machines send it to the node with which it began"
	noNeighbour = "Services that share an address: a load balancer of a cloud is one Service's"
)

var tcpAlone = map[v1alpha1.Engine]string{v1alpha1.EngineHAProxy: noUDP}

// Rows are all, in the order of docs/reference/semantics.md.
var Rows = []Row{
	{Number: "S01", Title: "a Service is ours by its class, or by default"},
	{Number: "S02", Title: "the class changes by way of another type"},
	{Number: "S03", Title: "the finalizer comes first and goes last"},
	{Number: "S04", Title: "a finalizer of our own beside the shared one"},
	{Number: "S05", Title: "a Service that is being deleted is not provisioned"},
	{Number: "S06", Title: "withdrawn when it is no longer ours, after a restart too"},
	{Number: "S07", Title: "finalizers of others survive"},
	{Number: "S08", Title: "a host out of reach holds a deletion, and there is a way out"},
	{Number: "S09", Title: "the status is written when it differs, and repaired"},
	{Number: "S10", Title: "one address for each family, the first one stays", But: map[v1alpha1.Engine]string{
		Octavia: "the second family: " + oneFamily}},
	{Number: "S11", Title: "ipMode", But: map[v1alpha1.Engine]string{
		v1alpha1.EngineNginx: "VIP: nginx " + proxies, v1alpha1.EngineHAProxy: "VIP: HAProxy " + proxies,
		Octavia: "VIP: Octavia " + proxies}},
	{Number: "S12", Title: "a status for each port", But: map[v1alpha1.Engine]string{
		Octavia: "ports that a daemon of a host has: a cloud has no hosts of ours"}},
	{Number: "S13", Title: "protocols that the engine cannot carry", Except: map[v1alpha1.Engine]string{v1alpha1.EngineLVS: everything}},
	{Number: "S14", Title: "the type changes, and NodePort Services that are exposed"},
	{Number: "S15", Title: "published when it answers, and from then on"},
	{Number: "S16", Title: "TCP and UDP on one port", Except: tcpAlone},
	{Number: "S17", Title: "no nodePort"},
	{Number: "S18", Title: "nodePorts are used again at once", But: map[v1alpha1.Engine]string{Octavia: noNeighbour}},
	{Number: "S19", Title: "Local: nodes with ready endpoints, by their number"},
	{Number: "S20", Title: "Cluster: endpoints say nothing of nodes"},
	{Number: "S21", Title: "terminating endpoints keep their connections"},
	{Number: "S22", Title: "health by family", Except: map[v1alpha1.Engine]string{Octavia: oneFamily}},
	{Number: "S23", Title: "which nodes may be backends"},
	{Number: "S24", Title: "NotReady removes no node"},
	{Number: "S25", Title: "addresses of nodes"},
	{Number: "S26", Title: "every node is excluded"},
	{Number: "S27", Title: "no eligible node"},
	{Number: "S28", Title: "source ranges"},
	{Number: "S29", Title: "session affinity"},
	{Number: "S30", Title: "requested addresses"},
	{Number: "S31", Title: "fields that are not ours"},
	{Number: "S32", Title: "events tell the story"},
	{Number: "S33", Title: "the same name again, and addresses that others hold"},
	{Number: "S34", Title: "two Services want one port of an address", But: map[v1alpha1.Engine]string{Octavia: noNeighbour}},
	{Number: "S35", Title: "a crash between any two writes"},
	{Number: "S36", Title: "UDP clients that keep their port", Except: tcpAlone, But: map[v1alpha1.Engine]string{Octavia: sameNode}},

	{Number: "E01", Title: "change the type and ports of a TCP Service"},
	{Number: "E02", Title: "change the type and ports of a UDP Service", Except: tcpAlone},
	{Number: "E03", Title: "only allow access from source ranges"},
	{Number: "E04", Title: "session affinity, Local"},
	{Number: "E05", Title: "switch session affinity, Local"},
	{Number: "E06", Title: "session affinity, Cluster"},
	{Number: "E07", Title: "switch session affinity, Cluster"},
	{Number: "E08", Title: "the cleanup finalizer comes and goes with the type"},
	{Number: "E09", Title: "create without a nodePort and change it"},
	{Number: "E10", Title: "UDP traffic when the pod cycles to another node", Except: tcpAlone, But: map[v1alpha1.Engine]string{Octavia: sameNode}},
	{Number: "E11", Title: "UDP traffic when the pod cycles on its node", Except: tcpAlone},
	{Number: "E12", Title: "no disruption during a rolling update, Cluster", But: map[v1alpha1.Engine]string{
		v1alpha1.EngineLVS: "a node that is deleted meanwhile: LVS ends the connections that it carries"}},
	{Number: "E13", Title: "no disruption during a rolling update, Local"},
	{Number: "E15", Title: "Local: only nodes with endpoints"},
	{Number: "E16", Title: "Local: all nodes that have endpoints"},
	{Number: "E18", Title: "the health check node port with terminating endpoints alone"},
	{Number: "E19", Title: "one port with two protocols", Except: tcpAlone},
	{Number: "E20", Title: "the status of a Service of a foreign class"},
	{Number: "E21", Title: "node-port allocation, the class is immutable, mixed protocols, ipMode"},
}
