package docs

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/external-lb/external-lb/internal/engine"
	"github.com/external-lb/external-lb/internal/engine/engines"
)

// listedCommands are those of external-lb that are lists in the YAML of a page, as tools take them
// that set machines up.
func listedCommands(t *testing.T, page string) (lines []string) {
	t.Helper()
	var find func(value any)
	find = func(value any) {
		switch value := value.(type) {
		case map[string]any:
			for _, v := range value {
				find(v)
			}
		case []any:
			if len(value) > 0 && value[0] == "external-lb" {
				lines = append(lines, strings.TrimSuffix(fmt.Sprintln(value...), "\n"))
			}
			for _, v := range value {
				find(v)
			}
		}
	}
	for _, block := range blocks(t, page, "yaml") {
		for document := range strings.SplitSeq(block, "\n---\n") {
			var value any
			if err := yaml.Unmarshal([]byte(document), &value); err != nil {
				t.Errorf("%s: %v\n%s", page, err, document)
			}
			find(value)
		}
	}
	slices.Sort(lines)
	return lines
}

var distributions = filepath.Join(root, "docs", "howto", "other-distributions.md")

// cloudConfig is what the page uses of cloud-init, and play of Ansible: what is not here is a
// mistake. Both tools have taken the examples, by hand; neither is installed for the tests.
type (
	cloudConfig struct {
		Packages   []string   `json:"packages"`
		WriteFiles []file     `json:"write_files"`
		RunCmd     [][]string `json:"runcmd"`
	}
	file struct {
		Path    string `json:"path"`
		Content string `json:"content"`
	}
	play struct {
		Name   string         `json:"name"`
		Hosts  string         `json:"hosts"`
		Become bool           `json:"become"`
		Vars   map[string]any `json:"vars"`
		Tasks  []task         `json:"tasks"`
	}
	task struct {
		Name    string `json:"name"`
		Package *struct {
			Name string `json:"name"`
		} `json:"ansible.builtin.package,omitempty"`
		Copy *struct {
			Src  string `json:"src"`
			Dest string `json:"dest"`
			Mode string `json:"mode"`
		} `json:"ansible.builtin.copy,omitempty"`
		Command *struct {
			Argv []string `json:"argv"`
		} `json:"ansible.builtin.command,omitempty"`
		Register    string `json:"register,omitempty"`
		ChangedWhen string `json:"changed_when,omitempty"`
	}
)

func TestMachinesAreSetUp(t *testing.T) {
	var cloud, plays int
	for _, block := range blocks(t, distributions, "yaml") {
		switch {
		case strings.HasPrefix(block, "#cloud-config\n"):
			cloud++
			var c cloudConfig
			if err := yaml.UnmarshalStrict([]byte(block), &c); err != nil {
				t.Fatal(err)
			}
			last := c.RunCmd[len(c.RunCmd)-1]
			for _, f := range c.WriteFiles {
				if !path.IsAbs(f.Path) || !slices.Contains(last, f.Path) || !strings.HasPrefix(f.Content, "ssh-ed25519 ") {
					t.Errorf("%+v is not what %q needs", f, last)
				}
			}
			for _, name := range []string{"nginx", "libnginx-mod-stream", "openssh-server", "sudo"} { // as the README has them
				if !slices.Contains(c.Packages, name) {
					t.Errorf("%s is not installed", name)
				}
			}
		case strings.HasPrefix(block, "- name: Balancer hosts\n"):
			plays++
			var p []play
			if err := yaml.UnmarshalStrict([]byte(block), &p); err != nil {
				t.Fatal(err)
			}
			copied := map[string]bool{}
			for _, each := range p[0].Tasks {
				if each.Copy != nil {
					copied[each.Copy.Dest] = true
				}
				if each.Command != nil && (!copied["/usr/local/bin/external-lb"] || !copied[each.Command.Argv[4]]) {
					t.Errorf("%q runs without what it needs: %v", each.Command.Argv, copied)
				}
			}
		}
	}
	if cloud != 1 || plays != 1 {
		t.Errorf("%d examples for cloud-init, %d for Ansible", cloud, plays)
	}
}

// The page has every command that host install says where SELinux enforces.
func TestTheCommandsForSELinuxAreOnThePage(t *testing.T) {
	text, err := os.ReadFile(distributions)
	if err != nil {
		t.Fatal(err)
	}
	software := []engine.Software{engines.Table.VRRP.Software}
	for _, e := range engines.Table.Engines {
		software = append(software, e.Software)
	}
	const where = "/var/lib/external-lb"
	for _, s := range software {
		settings := s.Settings()
		settings.SetDefaults(where, where+"/"+s.Section, false)
		daemon := s.Open(engine.Place{Dir: where + "/" + s.Section, Settings: settings})
		confined, ok := daemon.Installer(nil).(engine.Confined)
		if !ok {
			continue
		}
		c := confined.Confinement()
		for _, command := range append(c.SELinux, c.PerPort) {
			command = strings.Replace(command, where+"/lvs", where+"/keepalived", 1) // as the page says
			if !strings.Contains(string(text), "`"+command+"`") && command != "" {
				t.Errorf("%s: `%s` is not on the page", s.Section, command)
			}
		}
	}
}
