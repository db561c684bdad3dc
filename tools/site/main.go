// Command site makes the site of what people read in this repository: HTML that needs no JavaScript,
// no server and nothing from elsewhere. A link that leads nowhere, or to a heading that is not
// there, is an error.
package main

import (
	"fmt"
	"io/fs"
	"os"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: site REPOSITORY DIRECTORY")
		os.Exit(2)
	}
	if err := build(os.DirFS(os.Args[1]), os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// build makes the site of a repository in a directory.
func build(repository fs.FS, dir string) error {
	s, err := load(repository)
	if err != nil {
		return err
	}
	if err := s.link(); err != nil {
		return err
	}
	return s.write(dir)
}
