// Package page turns what the API server says into what `external-lb ui` shows: items,
// each with a key of its own. It is pure, and what it makes is bounded: texts are cut,
// lists end. Nothing in it is HTML: every text is one of a user, and is shown as text.
package page
