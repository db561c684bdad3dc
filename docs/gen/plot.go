package main

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// plot is a picture of figures against a size, with logarithmic axes: what grows with the size is a line upwards.
type plot struct {
	title, x, y string
	series      []series
}

type series struct {
	name   string
	style  int  // of the engine
	dashed bool // what something is held against
	points []point
}

// point is a median, with the least and the most.
type point struct{ x, y, least, most float64 }

// Sizes are pixels. Colours are read on light and on dark ground, and differ for those who do not see all of them;
// so do the marks.
const (
	plotWidth, plotHeight                   = 720, 400
	plotLeft, plotRight, plotTop, plotFloor = 64, 24, 78, 52
	ink, faint                              = "#767d86", "#767d8655"
)

var styles = []struct {
	colour, mark string
}{
	{"#0a84c4", "M-4,0a4,4 0 1,0 8,0a4,4 0 1,0 -8,0"},
	{"#d9661a", "M-4,-4h8v8h-8z"},
	{"#0f9d76", "M0,-5l5,9h-10z"},
	{"#c264a0", "M0,-5l5,5l-5,5l-5,-5z"},
}

// axis maps values to pixels.
type axis struct {
	low, high, from, to float64
}

// axisOf covers values with whole ticks.
func axisOf(from, to float64, values ...float64) axis {
	low, high := math.Inf(1), math.Inf(-1)
	for _, v := range values {
		low, high = min(low, v), max(high, v)
	}
	a := axis{low: below(low), high: below(high), from: from, to: to}
	if a.high < high || a.high == a.low {
		a.high = next(a.high)
	}
	return a
}

func (a axis) at(v float64) float64 {
	return a.from + (a.to-a.from)*(math.Log(v)-math.Log(a.low))/(math.Log(a.high)-math.Log(a.low))
}

// ticks are 1, 2 and 5 times powers of ten, or these powers alone where there are many.
func (a axis) ticks() (out []float64) {
	decades := math.Log10(a.high / a.low)
	for v := a.low; v <= a.high*1.001; v = next(v) {
		if _, digit := split(v); decades < 3 || digit == 1 {
			out = append(out, v)
		}
	}
	return out
}

// split a tick into its power of ten and its digit.
func split(v float64) (power, digit float64) {
	power = math.Pow(10, math.Floor(math.Log10(v)+1e-9))
	return power, math.Round(v / power)
}

// below is the greatest tick that is no greater.
func below(v float64) float64 {
	power := math.Pow(10, math.Floor(math.Log10(v)+1e-9))
	for _, digit := range []float64{5, 2} {
		if power*digit <= v*(1+1e-9) {
			return power * digit
		}
	}
	return power
}

func next(v float64) float64 {
	power, digit := split(v)
	switch digit {
	case 1:
		return 2 * power
	case 2:
		return 5 * power
	}
	return 10 * power
}

// svg draws it. Nothing in it is of anybody but us.
func (p plot) svg() []byte {
	var xs, ys []float64
	for _, s := range p.series {
		for _, at := range s.points {
			xs, ys = append(xs, at.x), append(ys, at.y, at.least, at.most)
		}
	}
	x := axisOf(plotLeft, plotWidth-plotRight, xs...)
	y := axisOf(plotHeight-plotFloor, plotTop, ys...)
	var b bytes.Buffer
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" role="img" viewBox="0 0 %d %d" width="%d"`, plotWidth, plotHeight, plotWidth)
	fmt.Fprintf(&b, ` font-family="system-ui, sans-serif" font-size="13" fill="%s">`+"\n<title>%s</title>\n", ink, escape(p.title))
	fmt.Fprintf(&b, `<text x="%d" y="22" font-size="16" font-weight="600">%s</text>`+"\n", plotLeft, escape(p.title))
	p.axes(&b, x, y)
	for i, s := range p.series {
		if s.draw(&b, x, y); len(p.series) > 1 {
			s.legend(&b, plotLeft+i%4*160, 46+i/4*18)
		}
	}
	b.WriteString("</svg>\n")
	return b.Bytes()
}

func (p plot) axes(b *bytes.Buffer, x, y axis) {
	for _, v := range x.ticks() {
		at := x.at(v)
		fmt.Fprintf(b, `<line x1="%.1f" x2="%.1f" y1="%.0f" y2="%.0f" stroke="%s"/>`, at, at, y.from, y.to, faint)
		fmt.Fprintf(b, `<text x="%.1f" y="%.0f" text-anchor="middle">%s</text>`+"\n", at, y.from+18, tick(v))
	}
	for _, v := range y.ticks() {
		at := y.at(v)
		fmt.Fprintf(b, `<line x1="%.0f" x2="%.0f" y1="%.1f" y2="%.1f" stroke="%s"/>`, x.from, x.to, at, at, faint)
		fmt.Fprintf(b, `<text x="%.0f" y="%.1f" text-anchor="end">%s</text>`+"\n", x.from-8, at+4, tick(v))
	}
	fmt.Fprintf(b, `<text x="%.0f" y="%d" text-anchor="middle">%s</text>`+"\n", (x.from+x.to)/2, plotHeight-12, escape(p.x))
	fmt.Fprintf(b, `<text transform="translate(16 %.0f) rotate(-90)" text-anchor="middle">%s</text>`+"\n", (y.from+y.to)/2, escape(p.y))
}

func (s series) draw(b *bytes.Buffer, x, y axis) {
	style := styles[s.style%len(styles)]
	var line strings.Builder
	for _, at := range s.points {
		fmt.Fprintf(&line, "%.1f,%.1f ", x.at(at.x), y.at(at.y))
	}
	dash := ""
	if s.dashed {
		dash = ` stroke-dasharray="5 4"`
	}
	fmt.Fprintf(b, `<g fill="none" stroke="%s">`, style.colour)
	fmt.Fprintf(b, `<polyline points="%s" stroke-width="2"%s/>`, strings.TrimSpace(line.String()), dash)
	for _, p := range s.points {
		at := x.at(p.x)
		fmt.Fprintf(b, `<line x1="%.1f" x2="%.1f" y1="%.1f" y2="%.1f"/>`, at, at, y.at(p.least), y.at(p.most))
	}
	b.WriteString("</g>\n")
	for _, p := range s.points {
		if !s.dashed {
			fmt.Fprintf(b, `<path transform="translate(%.1f %.1f)" d="%s" fill="%s"/>`+"\n", x.at(p.x), y.at(p.y), style.mark, style.colour)
		}
	}
}

func (s series) legend(b *bytes.Buffer, x, y int) {
	style := styles[s.style%len(styles)]
	if s.dashed {
		fmt.Fprintf(b, `<path d="M%d,%dh14" stroke="%s" stroke-width="2" stroke-dasharray="5 4"/>`, x-6, y-4, style.colour)
	} else {
		fmt.Fprintf(b, `<path transform="translate(%d %d)" d="%s" fill="%s"/>`, x, y-4, style.mark, style.colour)
	}
	fmt.Fprintf(b, `<text x="%d" y="%d">%s</text>`+"\n", x+14, y, escape(s.name))
}

func tick(v float64) string {
	if v >= 1000 {
		text := strconv.FormatFloat(v, 'f', 0, 64)
		return text[:len(text)-3] + "," + text[len(text)-3:]
	}
	return strconv.FormatFloat(v, 'g', -1, 32)
}

func escape(text string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(text)) // a Builder takes all
	return b.String()
}
