// Package lb is the model of what balancers carry: Services with Frontends that
// listen, and the nodes that answer; and the items in which it is sent. It knows neither Kubernetes nor any engine;
// values in it are parsed, sorted and safe to print into a configuration.
package lb
