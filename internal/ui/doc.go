// Package ui shows a cluster on a web page: it follows the objects, makes a page of them
// (package page), and tells browsers what has changed by server-sent events. It changes
// nothing in the cluster. Only the machine's own browsers reach it, by a secret path.
package ui
