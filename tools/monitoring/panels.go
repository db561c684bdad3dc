package main

import (
	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/common"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/prometheus"
	"github.com/grafana/grafana-foundation-sdk/go/stat"
	"github.com/grafana/grafana-foundation-sdk/go/timeseries"
)

// source is the Prometheus that the user chooses.
var source = common.DataSourceRef{Type: cog.ToPtr("prometheus"), Uid: cog.ToPtr("${datasource}")}

// newDashboard begins one, with links to the others.
func newDashboard(uid, title, description string) *dashboard.DashboardBuilder {
	return dashboard.NewDashboardBuilder(title).Uid(uid).Description(description).Tags([]string{"external-lb"}).
		Time("now-3h", "now").Refresh("1m").Timezone("browser").Tooltip(dashboard.DashboardCursorSyncCrosshair).
		Link(dashboard.NewDashboardLinkBuilder("external-lb").Type(dashboard.DashboardLinkTypeDashboards).Tags([]string{"external-lb"}).
			AsDropdown(false).IncludeVars(true).KeepTime(true)).
		WithVariable(dashboard.NewDatasourceVariableBuilder("datasource").Label("Data source").Type("prometheus"))
}

// variable lets the user choose among the values of a label.
func variable(name, label, query string) *dashboard.QueryVariableBuilder {
	return dashboard.NewQueryVariableBuilder(name).Label(label).Datasource(source).Query(dashboard.StringOrMap{String: &query}).
		Refresh(dashboard.VariableRefreshOnTimeRangeChanged).Sort(dashboard.VariableSortAlphabeticalAsc)
}

// query of Prometheus, and how its lines are called.
type query struct{ expr, legend string }

func (q query) of(refID string) *prometheus.DataqueryBuilder {
	return prometheus.NewDataqueryBuilder().RefId(refID).Expr(q.expr).LegendFormat(q.legend)
}

// Height and width of panels: a row is 24 wide.
const (
	tall    = 8
	short   = 4
	half    = 12
	third   = 8
	sixth   = 4
	quarter = 6
)

// lines is a panel of values over time.
func lines(title, unit string, width uint32, queries ...query) *timeseries.PanelBuilder {
	p := timeseries.NewPanelBuilder().Title(title).Datasource(source).Unit(unit).Min(0).Height(tall).Span(width).FillOpacity(10)
	for i, q := range queries {
		p = p.WithTarget(q.of(string(rune('A' + i))))
	}
	return p
}

// levels color a value: green, and from a value on another color.
func levels(color string, from float64) *dashboard.ThresholdsConfigBuilder {
	return dashboard.NewThresholdsConfigBuilder().Mode(dashboard.ThresholdsModeAbsolute).Steps([]dashboard.Threshold{
		{Color: "green"}, {Color: color, Value: &from},
	})
}

// alarming is green only from a value on.
func alarming(until float64) *dashboard.ThresholdsConfigBuilder {
	return dashboard.NewThresholdsConfigBuilder().Mode(dashboard.ThresholdsModeAbsolute).Steps([]dashboard.Threshold{
		{Color: "red"}, {Color: "green", Value: &until},
	})
}

// number is a panel of what is now.
func number(title, description string, width uint32, colors *dashboard.ThresholdsConfigBuilder, q query) *stat.PanelBuilder {
	return stat.NewPanelBuilder().Title(title).Description(description).Datasource(source).Height(short).Span(width).
		Thresholds(colors).ColorMode(common.BigValueColorModeBackground).GraphMode(common.BigValueGraphModeNone).
		WithTarget(q.of("A").Instant())
}
