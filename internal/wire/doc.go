// Package wire turns one byte stream, such as an SSH session's, into a
// host.Host: gRPC after a line from each end that says which protocol it speaks.
package wire
