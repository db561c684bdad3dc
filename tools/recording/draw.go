package main

import (
	"bytes"
	_ "embed"
	"encoding/xml"
	"fmt"
	"strings"
	"time"
)

// Sizes are pixels. A character of most fonts for terminals is 0.6 as wide as high.
const (
	fontSize   = 14
	rowHeight  = 19
	columnSize = 8.5
	margin     = 16
)

// What can be read: what comes at once is slowed down, and pauses are cut.
const (
	shortest = 60 * time.Millisecond
	longest  = 1500 * time.Millisecond
	ofAnAct  = 2500 * time.Millisecond // before the next one, which an empty row announces
	atTheEnd = 6 * time.Second
)

// pace says when each row is shown, and how long all of it takes.
func pace(rows []row) (shown []time.Duration, all time.Duration) {
	for i, r := range rows {
		if i > 0 {
			pause := min(max(r.at-rows[i-1].at, shortest), longest)
			if len(r.spans) == 0 {
				pause = ofAnAct
			}
			all += pause
		}
		shown = append(shown, all)
	}
	return shown, all + atTheEnd
}

//go:embed style.css
var style string

// draw makes an SVG of rows: the screen fills, then it scrolls. Who wants no motion sees the end.
func draw(title string, rows []row) []byte {
	var b bytes.Buffer
	shown, all := pace(rows)
	width := 2*margin + int(columns*columnSize)
	size := height * rowHeight
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" role="img" viewBox="0 0 %d %d" width="%d">`+"\n",
		width, size+2*margin, width)
	fmt.Fprintf(&b, "<title>%s</title>\n<style>\n%s", escape(title), style)
	fmt.Fprintf(&b, "text { font-size: %dpx; }\n.rows { animation-name: rows; }\n.curtain { animation-name: curtain; }\n", fontSize)
	fmt.Fprintf(&b, ".rows, .curtain { animation-duration: %.2fs; }\n", all.Seconds())
	frames(&b, "curtain", shown, all, func(row int) int { return min(row+1, height) * rowHeight })
	frames(&b, "rows", shown, all, func(row int) int { return -scrolled(row+1) * rowHeight })
	b.WriteString("</style>\n")
	fmt.Fprintf(&b, `<rect class="ground" x="0.5" y="0.5" width="%d" height="%d" rx="8" stroke="#37424d"/>`+"\n", width-1, size+2*margin-1)
	// What cuts the rows is away from their ends: edges that are not on a pixel shine through.
	fmt.Fprintf(&b, `<svg x="1" y="%d" width="%d" height="%d">`+"\n", margin, width-2, size)
	fmt.Fprintf(&b, `<g transform="translate(%d 0)"><g class="rows" transform="translate(0 %d)">`+"\n", margin, -scrolled(len(rows))*rowHeight)
	for i, r := range rows {
		if len(r.spans) > 0 {
			fmt.Fprintf(&b, `<text y="%d">%s</text>`+"\n", i*rowHeight+fontSize, spans(r.spans))
		}
	}
	b.WriteString("</g></g>\n")
	fmt.Fprintf(&b, `<rect class="ground curtain" width="100%%" height="%[1]d" transform="translate(0 %[1]d)"/>`+"\n</svg>\n</svg>\n", size)
	return b.Bytes()
}

// scrolled is how many rows have left the screen when so many were printed.
func scrolled(rows int) int { return max(0, rows-height) }

// frames are where something is when each row is shown.
func frames(b *bytes.Buffer, name string, shown []time.Duration, all time.Duration, place func(row int) int) {
	fmt.Fprintf(b, "@keyframes %s {\n", name)
	for i, at := range shown {
		if i == 0 || place(i) != place(i-1) {
			fmt.Fprintf(b, "%.3f%% { transform: translateY(%dpx); }\n", 100*at.Seconds()/all.Seconds(), place(i))
		}
	}
	fmt.Fprintf(b, "100%% { transform: translateY(%dpx); }\n}\n", place(len(shown)-1))
}

// spans are drawn without what cannot be seen.
func spans(all []span) string {
	var b strings.Builder
	for i, s := range all {
		text := s.text
		if i == len(all)-1 {
			text = strings.TrimRight(text, " ")
		}
		switch {
		case s.style == "" || strings.TrimSpace(text) == "":
			b.WriteString(escape(text))
		default:
			fmt.Fprintf(&b, `<tspan class="%s">%s</tspan>`, s.style, escape(text))
		}
	}
	return b.String()
}

func escape(text string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(text)) // a Builder takes all
	return b.String()
}
