package cli

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/external-lb/external-lb/internal/engine/engines"
	"github.com/external-lb/external-lb/internal/host"
	"github.com/external-lb/external-lb/internal/render"
)

// templateFlags say which templates are meant.
type templateFlags struct {
	engine, dir string
	own         bool // dir is the one that the host's end reads
}

// read those of the directory. Of its own the host's end takes only what is root's.
func (f *templateFlags) read() (map[string]string, error) {
	if f.own {
		if _, err := host.ReadTemplates(f.dir); err != nil {
			return nil, err
		}
	}
	return readTemplateFiles(f.dir)
}

func newHostTemplates() *cobra.Command {
	var f templateFlags
	cmd := &cobra.Command{
		SuggestionsMinimumDistance: 2,

		Use:   "templates",
		Short: "Templates of this machine's owner: print the built-in ones, check, compare",
		Long: `Every file of an engine is made by a template. You replace a built-in one by a file of
the same name in ` + host.TemplatesDir + `/ENGINE. The files must be root's. They
take effect with the next delivery, which the controller makes by itself within a
minute or two. If they cannot be used, the last good ones stay in force, and the
Balancer says why.`,
		Example: `  external-lb host templates print server.conf.tmpl > ` + host.TemplatesDir + `/nginx/server.conf.tmpl
  external-lb host templates check
  external-lb host templates diff`,
		Args: noSuchCommand,
		RunE: showHelp,
	}
	cmd.PersistentFlags().StringVar(&f.engine, "engine", "", "the engine (default: that of this machine)")
	cmd.PersistentFlags().StringVar(&f.dir, "templates", "", "directory of the templates (default: that of this machine)")
	cmd.AddCommand(f.print(), f.check(), f.diff())
	return cmd
}

// complete the flags by this machine's settings.
func (f *templateFlags) complete() error {
	if f.engine == "" || f.dir == "" {
		settings, err := hostSettings()
		if err != nil && f.engine == "" {
			return fmt.Errorf("%w; or say --engine", err)
		}
		if f.engine == "" {
			f.engine = settings.Engine
		}
		if f.dir == "" {
			f.dir, f.own = filepath.Join(cmp.Or(settings.Templates, host.TemplatesDir), f.engine), true
		}
	}
	if engines.Table.Find(f.engine) == nil {
		return fmt.Errorf("there is no engine %q, only %s", f.engine, strings.Join(engines.Table.Names(), ", "))
	}
	return nil
}

func (f *templateFlags) print() *cobra.Command {
	return &cobra.Command{
		Use:   "print [NAME…]",
		Short: "Print built-in templates, to start your own from",
		Long: `Print the built-in templates: all of them, or those that you name. One alone is printed
without a headline, so that it can be written to a file.`,
		Example: `  external-lb host templates print
  external-lb host templates print --engine haproxy listen.conf.tmpl`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.complete(); err != nil {
				return err
			}
			chosen, err := chooseTemplates(f.engine, args)
			if err != nil {
				return err
			}
			return printTemplates(cmd.OutOrStdout(), chosen, len(args) == 1)
		},
	}
}

func (f *templateFlags) check() *cobra.Command {
	return &cobra.Command{
		Use:   "check",
		Short: "Try templates on samples of all that the engine can do",
		Long: `Try the templates of this machine, or of a directory, on samples of all that the engine
can do. The exit code is 1 if one of them cannot be used.`,
		Example: `  external-lb host templates check
  external-lb host templates check --engine nginx --templates ./mine`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.complete(); err != nil {
				return err
			}
			custom, err := f.read()
			if err != nil {
				return err
			}
			renderer, err := render.New(engines.Table.Find(f.engine))
			if err == nil {
				_, err = renderer.With(custom)
			}
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s can be used in the place of the built-in ones of %s\n", strings.Join(slices.Sorted(maps.Keys(custom)), ", "), f.engine)
			return err
		},
	}
}

func (f *templateFlags) diff() *cobra.Command {
	return &cobra.Command{
		Use:   "diff",
		Short: "Show how templates differ from the built-in ones",
		Long: `Print the lines that templates of this machine, or of a directory, have more (+) and less
(-) than the built-in ones of the same name.`,
		Example: `  external-lb host templates diff`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.complete(); err != nil {
				return err
			}
			custom, err := f.read()
			if err != nil {
				return err
			}
			builtIn, err := render.BuiltIn(engines.Table.Find(f.engine))
			if err != nil {
				return err
			}
			for _, name := range slices.Sorted(maps.Keys(custom)) {
				was, known := builtIn[name]
				if !known {
					return fmt.Errorf("%s has no template %s, only %s", f.engine, name, strings.Join(slices.Sorted(maps.Keys(builtIn)), ", "))
				}
				if err := printLines(cmd.OutOrStdout(), name, was, custom[name]); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

// printLines that one of two texts has and the other lacks, in their order.
func printLines(w io.Writer, name, was, is string) error {
	_, err := fmt.Fprintf(w, "==> %s <==\n", name)
	for _, side := range []struct{ sign, text, other string }{{"-", was, is}, {"+", is, was}} {
		left := map[string]int{}
		for line := range strings.Lines(side.other) {
			left[strings.TrimSpace(line)]++
		}
		for line := range strings.Lines(side.text) {
			if left[strings.TrimSpace(line)]--; left[strings.TrimSpace(line)] < 0 {
				_, lineErr := fmt.Fprintf(w, "%s %s\n", side.sign, strings.TrimRight(line, "\n"))
				err = errors.Join(err, lineErr)
			}
		}
	}
	return err
}

// chooseTemplates of an engine by name; without names, all.
func chooseTemplates(engine string, names []string) (map[string]string, error) {
	all, err := render.BuiltIn(engines.Table.Find(engine))
	if err != nil || len(names) == 0 {
		return all, err
	}
	chosen := map[string]string{}
	for _, name := range names {
		text, ok := all[name]
		if !ok {
			return nil, fmt.Errorf("%s has no template %q, only %s", engine, name, strings.Join(slices.Sorted(maps.Keys(all)), ", "))
		}
		chosen[name] = text
	}
	return chosen, nil
}

func printTemplates(w io.Writer, all map[string]string, bare bool) error {
	for _, name := range slices.Sorted(maps.Keys(all)) {
		text := all[name]
		if !bare {
			text = fmt.Sprintf("==> %s <==\n%s\n", name, text)
		}
		if _, err := io.WriteString(w, text); err != nil {
			return err
		}
	}
	return nil
}
