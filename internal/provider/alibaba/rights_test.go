package alibaba

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/external-lb/external-lb/internal/provider/alibaba/alibabatest"
	"github.com/external-lb/external-lb/internal/provider/providertest"
	"github.com/external-lb/external-lb/internal/provider/sources"
	"github.com/external-lb/external-lb/provider"
)

// The rights that the page lists, by product, are those of the calls that are made, and no others.
// A load balancer's life makes each of them.
func TestRights_AreThoseOfTheCalls(t *testing.T) {
	page, err := os.ReadFile("../../../docs/howto/alibaba.md")
	if err != nil {
		t.Fatal(err)
	}
	var listed []map[string]bool
	for _, block := range regexp.MustCompile("(?s)```json\n(.*?)```").FindAllStringSubmatch(string(page), -1) {
		var policy struct{ Statement []struct{ Action []string } }
		if err := json.Unmarshal([]byte(block[1]), &policy); err != nil {
			t.Fatal(err)
		}
		rights := map[string]bool{}
		for _, s := range policy.Statement {
			for _, action := range s.Action {
				rights[action] = true
			}
		}
		listed = append(listed, rights)
	}
	if len(listed) != 2 {
		t.Fatalf("the page has %d policies, want one of NLB and one of CLB", len(listed))
	}
	for i, kind := range []string{"nlb", "clb"} {
		s := newScene(t, kind)
		life(t, s)
		made := map[string]bool{kind + ":TagResources": true} // what is made has tags
		if kind == "nlb" {
			made["ram:CreateServiceLinkedRole"] = true // by the cloud, in the name of who makes the first one
		}
		s.with(func(c *alibabatest.Cloud) {
			for action := range c.Calls {
				made[map[bool]string{true: "ecs", false: kind}[action == "DescribeInstances"]+":"+action] = true
			}
		})
		if kind == "clb" { // whose API has another name
			made = renamed(made, "clb:", "slb:")
		}
		if !maps.Equal(made, listed[i]) {
			t.Errorf("%s: made and not listed: %v; listed and not made: %v", kind, without(made, listed[i]), without(listed[i], made))
		}
	}
	// No call in the code is one that a life does not make.
	known := slices.Collect(maps.Keys(listed[0]))
	known = append(known, slices.Collect(maps.Keys(listed[1]))...)
	for _, text := range actionsInCode(t) {
		if !slices.ContainsFunc(known, func(right string) bool {
			_, action, _ := strings.Cut(right, ":")
			return strings.HasPrefix(action, text)
		}) {
			t.Errorf("%s is in the code, and not on the page", text)
		}
	}
}

// life of a load balancer, with all that can become of it.
func life(t *testing.T, s scene) {
	t.Helper()
	want := full(s.Cloud)
	providertest.Reach(t, s, web, &want)
	for _, change := range []string{"weight", "server more", "listener off", "algorithm", "timeout"} {
		s.change(t, change)
		providertest.Reach(t, s, web, &want)
	}
	if s.Type == CLB {
		s.change(t, "off")
		providertest.Reach(t, s, web, &want)
		want.Families = slices.Clone(want.Families)
		want.Families[0].Sources = []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}
		providertest.Reach(t, s, web, &want)
		want.Families = slices.Clone(want.Families)
		want.Families[0].Sources = []netip.Prefix{sources.Everybody}
		providertest.Reach(t, s, web, &want)
		udp := want
		udp.Listeners = slices.Clone(want.Listeners)
		udp.Listeners[2].NodePort++
		providertest.Reach(t, s, web, &udp)
		want = udp
	}
	want = provider.Spec{Namespace: want.Namespace, Name: want.Name, Families: want.Families, Listeners: want.Listeners[:1]}
	providertest.Reach(t, s, web, &want)
	providertest.Reach(t, s, web, nil)
}

func without(a, b map[string]bool) (out []string) {
	for name := range a {
		if !b[name] {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

func renamed(all map[string]bool, from, to string) map[string]bool {
	out := map[string]bool{}
	for name := range all {
		if rest, is := strings.CutPrefix(name, from); is {
			name = to + rest
		}
		out[name] = true
	}
	return out
}

// actionsInCode are the names of calls in the source, or how they begin.
func actionsInCode(t *testing.T) (out []string) {
	t.Helper()
	isAction := regexp.MustCompile(`^(Create|Delete|Describe|List|Get|Set|Update|Modify|Add|Remove|Start|Stop|Enable|Disable|Tag|Untag|Attach|Detach)[A-Z][A-Za-z]+$`)
	files, err := fs.Glob(os.DirFS("."), "*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if l, is := n.(*ast.BasicLit); is && l.Kind == token.STRING {
				if text, err := strconv.Unquote(l.Value); err == nil && isAction.MatchString(text) && text != "CreateFailed" { // which is a state
					out = append(out, text)
				}
			}
			return true
		})
	}
	if len(out) < 20 {
		t.Errorf("only %d calls were found: %v", len(out), out)
	}
	return out
}
