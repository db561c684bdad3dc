package main

import (
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/units"
)

// Replicas of the manager are one: what the last leader said may be there beside what this one says.

// overview is of all Balancers: what is wrong, and where.
func overview() *dashboard.DashboardBuilder {
	return newDashboard("external-lb-overview", "external-lb / Overview", "All Balancers: what is wrong, and where").
		WithRow(dashboard.NewRowBuilder("Now")).
		WithPanel(number("Managers that lead", "One works, the others take over", sixth, alarming(1),
			query{`sum(external_lb_leading)`, ""})).
		WithPanel(number("Balancers not programmed", "Too few of their hosts carry what they should", sixth, levels("red", 1),
			query{`count(max by (balancer) (external_lb_balancer_condition{condition="Programmed"}) == 0) or vector(0)`, ""})).
		WithPanel(number("Hosts not in sync", "They carry not all that they should, or it is not known", sixth, levels("orange", 1),
			query{`count(max by (balancer, host) (external_lb_host_state{state="InSync"}) == 0) or vector(0)`, ""})).
		WithPanel(number("Contested hosts", "Somebody else delivers to them", sixth, levels("red", 1),
			query{`count(max by (balancer, host) (external_lb_host_contested) == 1) or vector(0)`, ""})).
		WithPanel(number("Services", "That are carried", sixth, levels("green", 0),
			query{`sum(max by (balancer) (external_lb_services))`, ""})).
		WithPanel(number("Services without an address", "The panel below has the reasons", sixth, levels("orange", 1),
			query{`count(count by (service_namespace, service_name) (external_lb_service_waiting)) or vector(0)`, ""})).
		WithRow(dashboard.NewRowBuilder("Hosts and Services")).
		WithPanel(lines("Hosts by state", units.Short, third,
			query{`sum by (state) (max by (balancer, host, state) (external_lb_host_state))`, "{{state}}"})).
		WithPanel(lines("What hosts refuse", units.Short, third,
			query{`max by (balancer, host) (external_lb_refusals)`, "{{balancer}} {{host}}"})).
		WithPanel(lines("Services without an address, by reason", units.Short, third,
			query{`count by (reason) (max by (service_namespace, service_name, reason) (external_lb_service_waiting))`, "{{reason}}"})).
		WithRow(dashboard.NewRowBuilder("Changes")).
		WithPanel(lines("Time from a change to its proof", units.Seconds, third,
			query{`histogram_quantile(0.5, sum by (le) (rate(external_lb_proof_seconds_bucket[$__rate_interval])))`, "half"},
			query{`histogram_quantile(0.99, sum by (le) (rate(external_lb_proof_seconds_bucket[$__rate_interval])))`, "99 of 100"})).
		WithPanel(lines("Deliveries by result", units.OpsPerSecond, third,
			query{`sum by (result) (rate(external_lb_deliveries_total[$__rate_interval]))`, "{{result}}"})).
		WithPanel(lines("Reloads by cause", units.OpsPerSecond, third,
			query{`sum by (cause) (rate(external_lb_reloads_total[$__rate_interval]))`, "{{cause}}"})).
		WithRow(dashboard.NewRowBuilder("What may run out")).
		WithPanel(lines("Addresses of pools that are assigned", units.PercentUnit, third,
			query{`max by (balancer, pool, family) (external_lb_pool_addresses_assigned / external_lb_pool_addresses)`,
				"{{pool}} {{family}}"}).Max(1)).
		WithPanel(lines("What is in use of hosts", units.PercentUnit, third,
			query{`max by (balancer, host, resource) (external_lb_host_use_ratio)`, "{{balancer}} {{host}} {{resource}}"}).Max(1)).
		WithPanel(lines("Certificates expire in", units.Seconds, third,
			query{`min by (secret_namespace, secret) (external_lb_certificate_expiry_timestamp_seconds) - time()`,
				"{{secret_namespace}}/{{secret}}"})).
		WithRow(dashboard.NewRowBuilder("Traffic")).
		WithPanel(lines("Connections that are open, the most of a Service", units.Short, third,
			query{`topk(10, sum by (service_namespace, service_name) (max by (balancer, host, service_namespace, service_name, port) (external_lb_service_connections)))`,
				"{{service_namespace}}/{{service_name}}"})).
		WithPanel(lines("Connections that no node took", units.OpsPerSecond, third,
			query{`topk(10, sum by (service_namespace, service_name) (rate(external_lb_service_failed_total[$__rate_interval])))`,
				"{{service_namespace}}/{{service_name}}"})).
		WithPanel(lines("Nodes that are down, the most of a port", units.Short, third,
			query{`topk(10, max by (service_namespace, service_name, port) (external_lb_service_nodes_down))`,
				"{{service_namespace}}/{{service_name}} {{port}}"}))
}

// ofBalancer is one Balancer with its hosts and pools.
func ofBalancer() *dashboard.DashboardBuilder {
	const b = `{balancer="$balancer"}`
	return newDashboard("external-lb-balancer", "external-lb / Balancer", "One Balancer with its hosts and pools").
		WithVariable(variable("balancer", "Balancer", "label_values(external_lb_services, balancer)")).
		WithRow(dashboard.NewRowBuilder("Now")).
		WithPanel(number("Conditions", "1 is True. Ready should be, Degraded and Stalled should not", half, levels("green", 0),
			query{`max by (condition) (external_lb_balancer_condition` + b + `)`, "{{condition}}"})).
		WithPanel(number("Services", "That it carries", sixth, levels("green", 0), query{`max(external_lb_services` + b + `)`, ""})).
		WithPanel(number("Hosts that warn", "The words are in its status", sixth, levels("orange", 1),
			query{`sum(max by (host) (external_lb_host_warning` + b + `))`, ""})).
		WithPanel(number("Hosts being drained", "Taken out for maintenance", sixth, levels("blue", 1),
			query{`sum(max by (host) (external_lb_host_draining` + b + `))`, ""})).
		WithRow(dashboard.NewRowBuilder("Hosts")).
		WithPanel(lines("State", units.Short, half,
			query{`max by (host, state) (external_lb_host_state` + b + `) == 1`, "{{host}} {{state}}"})).
		WithPanel(lines("Refused", units.Short, quarter, query{`max by (host) (external_lb_refusals` + b + `)`, "{{host}}"})).
		WithPanel(lines("Contested", units.Short, quarter, query{`max by (host) (external_lb_host_contested` + b + `)`, "{{host}}"})).
		WithPanel(lines("In use of what all Services share", units.PercentUnit, half,
			query{`max by (host, resource) (external_lb_host_use_ratio` + b + `)`, "{{host}} {{resource}}"}).Max(1)).
		WithPanel(lines("Old workers", units.Short, half, query{`max by (host) (external_lb_host_old_workers` + b + `)`, "{{host}}"})).
		WithPanel(lines("Clocks, ahead of the manager's", units.Seconds, half,
			query{`max by (host) (external_lb_host_clock_skew_seconds` + b + `)`, "{{host}}"})).
		WithPanel(lines("Restarts by others, in an hour", units.Short, half,
			query{`sum by (host) (increase(external_lb_host_restarts_total` + b + `[1h]))`, "{{host}}"})).
		WithPanel(lines("Time since it told what it sees", units.Seconds, half,
			query{`time() - max by (host) (external_lb_host_observed_timestamp_seconds` + b + `)`, "{{host}}"})).
		WithPanel(number("Ports without metrics of traffic", "There are too many", half, levels("orange", 1),
			query{`max(external_lb_traffic_omitted` + b + `)`, ""})).
		WithRow(dashboard.NewRowBuilder("Changes")).
		WithPanel(lines("Time from a change to its proof, 99 of 100", units.Seconds, third,
			query{`histogram_quantile(0.99, sum by (host, le) (rate(external_lb_proof_seconds_bucket` + b + `[$__rate_interval])))`, "{{host}}"})).
		WithPanel(lines("Deliveries", units.OpsPerSecond, third,
			query{`sum by (host, result) (rate(external_lb_deliveries_total` + b + `[$__rate_interval]))`, "{{host}} {{result}}"})).
		WithPanel(lines("Reloads", units.OpsPerSecond, third,
			query{`sum by (host, cause) (rate(external_lb_reloads_total` + b + `[$__rate_interval]))`, "{{host}} {{cause}}"})).
		WithRow(dashboard.NewRowBuilder("A provider's cloud")).
		WithPanel(lines("Requests to the provider", units.OpsPerSecond, half,
			query{`sum by (request, result) (rate(external_lb_provider_requests_total` + b + `[$__rate_interval]))`, "{{request}} {{result}}"})).
		WithPanel(lines("Calls of the cloud's API", units.OpsPerSecond, half,
			query{`sum by (request, kind) (rate(external_lb_provider_cloud_calls_total` + b + `[$__rate_interval]))`, "{{request}}, {{kind}}"})).
		WithRow(dashboard.NewRowBuilder("Addresses and Services")).
		WithPanel(lines("Addresses of pools", units.Short, half,
			query{`max by (pool, family) (external_lb_pool_addresses_assigned` + b + `)`, "{{pool}} {{family}}, assigned"},
			query{`max by (pool, family) (external_lb_pool_addresses` + b + `)`, "{{pool}} {{family}}, in all"})).
		WithPanel(lines("Services without an address, by reason", units.Short, half,
			query{`count by (reason) (max by (service_namespace, service_name, reason) (external_lb_service_waiting` + b + `))`, "{{reason}}"}))
}

// ofService is one Service, on the Balancers that carry it.
func ofService() *dashboard.DashboardBuilder {
	const s = `{service_namespace="$service_namespace",service_name="$service_name"}`
	const hosts = `external_lb_host_state{state=~"InSync|Partial"} and on (balancer) external_lb_service_hosts` + s
	return newDashboard("external-lb-service", "external-lb / Service", "One Service: its addresses, and the hosts that carry it").
		WithVariable(variable("service_namespace", "Namespace", "label_values(external_lb_service_addresses, service_namespace)")).
		WithVariable(variable("service_name", "Service",
			`label_values(external_lb_service_addresses{service_namespace="$service_namespace"}, service_name)`)).
		WithRow(dashboard.NewRowBuilder("Now")).
		WithPanel(number("Addresses", "That its users were told", quarter, alarming(1),
			query{`max by (balancer) (external_lb_service_addresses` + s + `)`, "{{balancer}}"})).
		WithPanel(number("Hosts", "That prove to carry it as it is desired", quarter, alarming(1),
			query{`max by (balancer) (external_lb_service_hosts` + s + `)`, "{{balancer}}"})).
		WithPanel(number("Refused", "What hosts refuse of it: all, or ports", quarter, levels("orange", 1),
			query{`max by (balancer) (external_lb_service_refusals` + s + `)`, "{{balancer}}"})).
		WithPanel(number("Why it has no address", "Its condition external-lb.dev/Programmed says more", quarter, levels("orange", 1),
			query{`max by (reason) (external_lb_service_waiting` + s + `)`, "{{reason}}"}).NoValue("it has one")).
		WithRow(dashboard.NewRowBuilder("Over time")).
		WithPanel(lines("Addresses and hosts", units.Short, half,
			query{`max by (balancer) (external_lb_service_addresses` + s + `)`, "addresses, {{balancer}}"},
			query{`max by (balancer) (external_lb_service_hosts` + s + `)`, "hosts that carry it, {{balancer}}"})).
		WithPanel(lines("Hosts of its Balancer that carry what they should", units.Short, half,
			query{`max by (balancer, host) (` + hosts + `)`, "{{host}}"})).
		WithRow(dashboard.NewRowBuilder("Traffic")).
		WithPanel(lines("Connections that are open", units.Short, third,
			query{`max by (host, port) (external_lb_service_connections` + s + `)`, "{{host}} {{port}}"})).
		WithPanel(lines("Connections", units.OpsPerSecond, third,
			query{`sum by (port) (rate(external_lb_service_connections_total` + s + `[$__rate_interval]))`, "{{port}}, made"},
			query{`sum by (port) (rate(external_lb_service_refused_total` + s + `[$__rate_interval]))`, "{{port}}, refused"},
			query{`sum by (port) (rate(external_lb_service_failed_total` + s + `[$__rate_interval]))`, "{{port}}, no node took them"})).
		WithPanel(lines("Bytes", units.BytesPerSecondIEC, third,
			query{`sum by (port) (rate(external_lb_service_received_bytes_total` + s + `[$__rate_interval]))`, "{{port}}, from clients"},
			query{`sum by (port) (rate(external_lb_service_sent_bytes_total` + s + `[$__rate_interval]))`, "{{port}}, to clients"})).
		WithPanel(lines("Nodes that hosts hold for up", units.Short, half,
			query{`max by (host, port) (external_lb_service_nodes_up` + s + `)`, "{{host}} {{port}}"})).
		WithPanel(lines("Nodes that hosts hold for down", units.Short, half,
			query{`max by (host, port) (external_lb_service_nodes_down` + s + `)`, "{{host}} {{port}}"}))
}
