package ui

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/external-lb/external-lb/internal/ui/page"
	"github.com/external-lb/external-lb/test/browser"
)

// lookAt is what two hosts told of 2,000 Services some seconds after a time: the last one has
// most traffic, and a node that one host holds for down.
func lookAt(seconds int64) (looks []page.Look) {
	for _, host := range []string{"lb1", "lb2"} {
		l := page.Look{Balancer: "edge", Host: host, At: time.Unix(1_800_000_000+seconds, 0)}
		for i := range int64(2000) {
			name := types.NamespacedName{Namespace: fmt.Sprint("team-", i%10), Name: fmt.Sprint("web-", i)}
			l.Ports = append(l.Ports, page.PortLook{Service: name, Open: i, Up: 1,
				Counts: page.Counts{Made: 10 * seconds, Failed: -1, In: i * seconds, Out: 1000 * i * seconds}})
		}
		if host == "lb1" {
			last := &l.Ports[1999]
			last.Down, last.DownNodes = 2, []page.DownNode{{Node: "node7", Since: "2026-01-02T12:00:00Z"}}
		}
		looks = append(looks, l)
	}
	return looks
}

// In a real browser, by keys alone: Services are sorted by their traffic, and the story of the
// first one says what each host tells of it.
func TestTrafficInABrowser(t *testing.T) {
	h, url := serveObjects(t, many(2000, "refused"))
	b := browser.Open(t)
	b.Go(url)
	b.Until(`return document.querySelector('#services small')?.innerText === '2000 of 2000'`)
	meter := page.NewMeter()
	publish := func(seconds int64) {
		items, err := meter.Items(lookAt(seconds))
		must(t, err)
		h.publish(ofTraffic, items)
	}
	publish(0)
	publish(10)
	b.Run(`document.querySelector('#sort').focus()`, nil)
	b.Press("c") // connections
	b.Until(`return document.querySelector('#sort').value === 'open' || document.querySelector('#sort').value`)
	b.Press("/web-199")
	b.Until(`const rows = [...document.querySelectorAll('[data-service]')].map((x) => x.dataset.service);
		return rows[0] === 'service/team-9/web-1999' && rows[1] === 'service/team-8/web-1998' || rows.join()`)
	b.Until(`const row = document.querySelector('[data-service]').innerText;
		return ['4K', '4KB/s', '4MB/s', '2 nodes down'].every((x) => row.includes(x)) || row`)
	b.Until(`const row = document.querySelector('[data-host=lb1]').innerText;
		return ['2M open', '20K/s new'].every((x) => row.includes(x)) || row`)

	b.Run(`document.querySelector('[data-service] button').focus()`, nil)
	b.Press(browser.Enter)
	b.Until(`const said = document.querySelector('[data-traffic=lb1]')?.innerText ?? '';
		return ['1 of 3', 'node7 is down since', '1 more node down', '2K open', '10/s new'].every((x) => said.includes(x)) || said`)
	b.Until(`const said = document.querySelector('[data-traffic=lb2]').innerText;
		return said.includes('1 of 1') && !said.includes('down') || said`)

	for selector, want := range map[string]string{"#sort": " Sorted by", "#traffic": "region Health and traffic"} {
		if got := b.Heard(selector); !strings.HasSuffix(got, want) {
			t.Errorf("a screen reader says of %s %q, want %q", selector, got, want)
		}
	}

	// What changes is seen where it is, and nobody loses the focus.
	publish(20)
	var took float64
	b.Run(`const began = performance.now(); return new Promise((done) => requestAnimationFrame(() => setTimeout(() => done(performance.now() - began))))`, &took)
	b.Until(`return document.activeElement.id === 'story-title'`)
	t.Logf("new numbers of 2000 Services took the browser %.0f ms", took)
	h.silent("nobody tells")
	b.Until(`const said = document.querySelector('#silence').innerText + document.querySelector('#traffic').innerText;
		return said.split('nobody tells').length === 3 || said`)
	if err := b.Complaints(); err != nil {
		t.Error(err)
	}
}
