package plan

import (
	"strings"
	"testing"

	"github.com/external-lb/external-lb/api/v1alpha1"
	"github.com/external-lb/external-lb/internal/lb"
	"github.com/external-lb/external-lb/internal/render"
)

// custom is the built-in template of a Service's file with something at its end.
func custom(t *testing.T, end string) map[string]string {
	t.Helper()
	all, err := render.BuiltIn(lb.Nginx)
	if err != nil {
		t.Fatal(err)
	}
	return map[string]string{"service.conf.tmpl": all["service.conf.tmpl"] + end}
}

// A plan is made with the templates in use, also of Services that did not change.
func TestPlannerSwitchesTemplates(t *testing.T) {
	web, odd := service("web", held("edge", "192.0.2.1")), service("odd", held("edge", "192.0.2.2"))
	s := snapshot(t, web, odd)
	planner, err := NewPlanner(v1alpha1.EngineNginx)
	if err != nil {
		t.Fatal(err)
	}
	path, _ := Path(web)
	plan := func() (*Plan, string) {
		t.Helper()
		p, err := planner.Plan(s, Assign(s))
		if err != nil {
			t.Fatal(err)
		}
		f, _ := p.Set.Get(path)
		return p, string(f.Data)
	}
	use := func(templates map[string]string) {
		t.Helper()
		if err := planner.Use(templates); err != nil {
			t.Fatal(err)
		}
	}
	before, _ := plan()

	use(custom(t, "# one\n"))
	if _, text := plan(); !strings.HasSuffix(text, "\n# one\n") {
		t.Errorf("made of what is remembered:\n%s", text)
	}
	first, _ := plan()
	use(custom(t, "# one\n"))
	if again, _ := plan(); again.Set != first.Set {
		t.Error("the same templates are a reason to render anew")
	}
	if err := planner.Use(custom(t, "{{if}}")); err == nil {
		t.Error("a broken template is used")
	}
	if same, _ := plan(); same.Set != first.Set {
		t.Error("a broken template changed something")
	}
	use(nil)
	if after, _ := plan(); after.Set.Digest() != before.Set.Digest() || len(after.Unfit) > 0 {
		t.Errorf("not as before: %+v", after)
	}

	// What fails for one Service is that Service's to know, and the Balancer's.
	use(custom(t, `# two{{if eq .ID.Name "odd"}}{{index nil 1}}{{end}}`))
	p, text := plan()
	if !strings.Contains(text, "# two") || len(p.Unfit) != 1 || !strings.HasPrefix(p.Unfit[0], "Service default/odd: service.conf.tmpl:") {
		t.Errorf("unfit: %q\n%s", p.Unfit, text)
	}
	for _, svc := range p.Services {
		told := len(svc.Problems) == 1 && svc.Problems[0].Reason == v1alpha1.ReasonTemplatesInvalid && !svc.Problems[0].Fatal
		if told != (svc.Object == odd) {
			t.Errorf("%s: %+v", svc.Object.Name, svc.Problems)
		}
		if _, there := p.Set.Get(svc.Path); !there {
			t.Errorf("%s is not carried", svc.Object.Name)
		}
	}
}
