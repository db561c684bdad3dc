// Package translate turns a snapshot of Kubernetes objects, with addresses
// assigned, into an lb.Config and into what users should know about their
// Services and policies. It is pure: the same input gives the same output.
package translate
