package main

import (
	"iter"
	"strings"
	"unicode"

	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/util"
)

// descendants are a node and all below it.
func descendants(root ast.Node) iter.Seq[ast.Node] {
	return func(yield func(ast.Node) bool) {
		_ = ast.Walk(root, func(n ast.Node, entering bool) (ast.WalkStatus, error) { // never fails
			if entering && !yield(n) {
				return ast.WalkStop, nil
			}
			return ast.WalkContinue, nil
		})
	}
}

// textOf is what is read of a node.
func textOf(root ast.Node, source []byte) string {
	var b strings.Builder
	for n := range descendants(root) {
		switch n := n.(type) {
		case *ast.Text:
			value := n.Value(source)
			if _, verbatim := n.Parent().(*ast.CodeSpan); !verbatim {
				value = util.UnescapePunctuations(value)
			}
			b.Write(value)
		case *ast.String:
			b.Write(n.Value)
		case *ast.AutoLink:
			b.Write(n.Label(source))
		}
	}
	return b.String()
}

// anchor is the name that GitHub gives a heading.
func anchor(words string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == ' ':
			return '-'
		case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsNumber(r) || unicode.IsMark(r):
			return unicode.ToLower(r)
		}
		return -1
	}, words)
}
