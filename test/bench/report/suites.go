package report

// AboutSuite says what a suite measures.
type AboutSuite struct {
	Name, Title, Means string
}

// Suites are all of them, in the order in which they are measured and shown.
var Suites = []AboutSuite{
	{"life", "The life of Services",
		`All Services are created at once by 20 clients, changed at once, and deleted at once, on a cluster with one node and one host. A Service
is created when its address is in its status, which is when the host has proved it; it is changed when an event says that the change
is live; it is deleted when it is gone. MetalLB's controller is measured on the same cluster, by the same clients. It only writes the
address: no host is programmed, and nothing says when a changed port is live.`},

	{"start", "The start of the controller",
		`The controller starts while all Services wait for their addresses, and again when all but one
have theirs: then until that one has it.`},

	{"one", "One change among many",
		`All is at rest. Then one thing changes, and we wait until a user sees that it is live: the address of a Service, an event, or the
Balancer's status. All nodes carry each Service, so the daemon reads Services × nodes lines at each reload.`},

	{"memory", "The memory of the controller",
		`A real API server has Services of ours with their endpoints, as many EndpointSlices of others, and nodes with 50 images each. The
controller starts, and plans all of them. Its host cannot be reached, so that no balancer's memory bounds the size.`},

	{"hosts", "What a host needs",
		"All Services are live on one host, with all nodes behind each of them, and with few of them by `maxPerService`."},

	{"load", "Changes under load",
		`Four clients ask one Service, each time over a new connection, while other Services come.`},

	{"failover", "A host that is switched off",
		`VRRP moves an address between two hosts, and the active one is switched off under load. A client waits for 100 ms, then tries
again.`},
}
