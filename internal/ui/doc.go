// Package ui shows a cluster on a web page: it follows the objects, makes a page of them
// (package page), and tells browsers what has changed by server-sent events. It changes
// nothing in the cluster. The page of a command is for the machine's own browsers, by a secret
// path (Run); that of a manager is on the loopback, or for those whose token may (Page).
//
// The page is in static/: modules that browsers load as they are. preact.mjs is
// dist/preact.mjs of the npm package preact, as published (npm pack preact); another
// version of it needs its digest in a test, and its number in LICENSES.txt.
package ui
