package report

import "strconv"

// Metric is the name of a figure in the file.
type Metric string

// The figures. Costs are for each Service or change.
const (
	Total           Metric = "seconds"
	P50             Metric = "p50Seconds"
	P99             Metric = "p99Seconds"
	Floor           Metric = "floorSeconds"
	Ratio           Metric = "ratioToFloor"
	Check           Metric = "checkSeconds"
	Reloads         Metric = "reloads"
	Writes          Metric = "apiWritesEach"
	Events          Metric = "eventWritesEach"
	ControllerCPU   Metric = "controllerCPUMillisecondsEach"
	AgentCPU        Metric = "agentCPUMillisecondsEach"
	ControllerPeak  Metric = "controllerPeakMegabytes"
	ControllerAfter Metric = "controllerMegabytes"
	AgentPeak       Metric = "agentPeakMegabytes"
	Daemon          Metric = "daemonMegabytes"
	DaemonPeak      Metric = "daemonPeakMegabytes"
	Gap             Metric = "secondsWithoutAnswer"
	Requests        Metric = "requests"
	Failed          Metric = "failedRequests"
	OldWorkers      Metric = "oldWorkers"
)

// About says what a figure is, for the head of its column and for who reads the page.
type About struct {
	Metric      Metric
	Title, Unit string
	Means       string
}

// Metrics are all figures, in the order of columns.
var Metrics = []About{
	{Total, "all", "s", "from the first request until all is done"},
	{P50, "p50", "s", "what half of the Services waited at most"},
	{P99, "p99", "s", "what 99 of 100 Services waited at most"},
	{Floor, "floor", "s", "what the daemon's own check and a reload of the same files take, by hand and without us"},
	{Ratio, "ratio", "× floor", "the time (of many Services: p50) over the floor of the same run"},
	{Check, "check", "s", "the daemon's own check alone"},
	{Reloads, "reloads", "", "of the daemon"},
	{Writes, "writes", "each", "the controller's writes of Services and of its own kinds"},
	{Events, "events", "each", "its writes of events"},
	{ControllerCPU, "controller", "ms each", "CPU of the controller's process"},
	{AgentCPU, "agent", "ms each", "CPU of the agent on the host, with the checks and reloads that it starts"},
	{ControllerPeak, "controller's peak", "MB", "the most that the controller's process had resident"},
	{ControllerAfter, "controller", "MB", "what it had when all was quiet"},
	{AgentPeak, "agent's peak", "MB", "the most that the agent had resident"},
	{Daemon, "daemon", "MB", "resident memory of the daemon's processes; what they share is counted once"},
	{DaemonPeak, "in a reload", "MB", "the most of it while old and new workers run"},
	{Gap, "without an answer", "s", "the longest time between two answers that any client got"},
	{Requests, "requests", "", "of clients, one after the other, each over a new connection"},
	{Failed, "failed", "", "of these"},
	{OldWorkers, "old workers", "", "processes of earlier configurations that still carried connections at the end"},
}

// Columns are those figures that one of some rows has.
func Columns(rows []Row) (columns []About) {
	for _, about := range Metrics {
		for _, r := range rows {
			if _, there := r.Figures[about.Metric]; there {
				columns = append(columns, about)
				break
			}
		}
	}
	return columns
}

// Head of the figure's column.
func (a About) Head() string {
	if a.Unit == "" {
		return a.Title
	}
	return a.Title + " (" + a.Unit + ")"
}

// String is the median, and the least and the most where runs differ.
func (s Spread) String() string {
	median, least, most := short(s.Median), short(s.Min), short(s.Max)
	if least == most {
		return median
	}
	return median + " (" + least + "–" + most + ")"
}

// short prints three digits at most, and all of those before the point.
func short(v float64) string {
	switch {
	case v == float64(int64(v)) || v >= 100:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case v >= 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	case v >= 0.1:
		return strconv.FormatFloat(v, 'f', 2, 64)
	}
	return strconv.FormatFloat(v, 'f', 3, 64)
}
