// Package provider is the contract between external-lb and what makes a public cloud's
// load balancer carry a Service: a provider. docs/reference/provider-api.yaml has the same
// for who writes one in another language.
//
// A provider is asked over HTTP for one load balancer per Service. Each request says all
// that is wanted, and each answer says what was read back from the cloud. So a provider keeps
// no state: it finds its own objects by their tag, the ID, and can crash at any line.
//
// Who writes one in Go implements Cloud, and serves it with a Server. Client is the other
// end. The conformance kit, `external-lb provider check`, asks any provider.
package provider
